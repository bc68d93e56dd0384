#!/bin/sh
# venv.sh REQUIREMENTS: makes .venv where it is missing and installs REQUIREMENTS into it.
# What went wrong is one sentence; pip's own words are in .venv/pip.log.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}

fail() {
    echo "$1" >&2
    exit 1
}

if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    command -v "$python" >/dev/null ||
        fail "$python is not installed; install Python 3.11 or later, or say where it is: make PYTHON=..."
    version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])') ||
        fail "$python does not run; say where Python 3.11 or later is: make PYTHON=..."
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$python is Python $version, and this needs 3.11 or later; say where one is: make PYTHON=..."
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        # Debian keeps these in a package of their own.
        tools/install.sh python3-venv
        "$python" -c 'import ensurepip, venv' 2>/dev/null ||
            fail "$python has no module venv; install it (on Debian: apt-get install python3-venv)"
    fi
    echo "making .venv with Python $version ..."
    "$python" -m venv --clear .venv ||
        fail "$python -m venv failed, as said above; is the disk full or the folder read-only?"
fi

echo "installing $1 ..."
if ! .venv/bin/python -m pip install --disable-pip-version-check -r "$1" >.venv/pip.log 2>&1; then
    tail -n 15 .venv/pip.log >&2
    fail "pip could not install $1, as said above (whole log: .venv/pip.log); then run make again"
fi
