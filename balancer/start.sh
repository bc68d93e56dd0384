#!/bin/sh
# Starts nginx with the settings of the environment that it has to know, see settings.conf. More
# arguments are handed on to nginx.
set -eu
cd "$(dirname "$0")"
for name in BOTS REPEAT_WINDOW VIEWERS; do
    eval "value=\${$name:-}"
    case $value in
        "") ;;
        *[!A-Za-z0-9.]*)
            echo "$name=$value: write it as the nodes have it, in letters, digits and dots" >&2
            exit 2 ;;
        *) echo "$name $value;" ;;
    esac
done >tmp/settings.conf
exec nginx -p "$PWD/" -c nginx.conf -e stderr -g "daemon off;" "$@"
