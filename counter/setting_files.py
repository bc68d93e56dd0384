"""Settings that are read from files, as containers get their secrets: `ADMIN_TOKEN_FILE`."""

from collections import ChainMap
from collections.abc import Mapping

IN_FILES = ("CLUSTER_SECRET", "ADMIN_TOKEN", "WRITE_TOKEN", "REDIS_URI", "AMQP_URI")
"""The settings that may be: those that are, or hold, a secret."""
_LONGEST = 64 * 1024


class SettingFileError(ValueError):
    """A file cannot be used; the message names the setting, the file and the remedy."""


def with_files(environ: Mapping[str, str]) -> Mapping[str, str]:
    """The settings, with those in files read. Raises `SettingFileError`.

    A value is the content of its file without the line end at its end. An empty setting counts as
    unset; an empty file is an error.
    """
    found = {}
    for setting in IN_FILES:
        name = f"{setting}_FILE"
        if not (file := environ.get(name)):
            continue
        if environ.get(setting):
            raise SettingFileError(f"{name}={file!r} and {setting} are both set; unset one of them")
        found[setting] = _read(name, file)
    # What is asked for and is in no file is looked up in `environ` itself.
    return ChainMap(found, dict(environ)) if found else environ


def _read(name: str, file: str) -> str:
    try:
        with open(file, "rb") as opened:
            content = opened.read(_LONGEST + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingFileError(
            f"{name}={file!r} cannot be read ({reason}); set it to a file that this user may read"
        ) from None
    if len(content) > _LONGEST:
        raise SettingFileError(f"{name}={file!r} has more than {_LONGEST} bytes; it is no secret")
    # What is no UTF-8 is named when the characters are checked.
    value = content.decode(errors="surrogateescape").removesuffix("\n")
    if not value:
        raise SettingFileError(f"{name}={file!r} is empty; write the value into it")
    return value
