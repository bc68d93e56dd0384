"""The token that a command sends: given as an option, or set as for a node."""

import os

import click

from counter.setting_files import SettingFileError, with_files


def secret_of(option: str | None, setting: str) -> str | None:
    """The secret that is given, or the first one of a setting of the environment; None without.

    Either may be a list as a node takes it, with labels. Raises ClickException for a secret that
    cannot be sent.
    """
    try:
        given = option or with_files(os.environ).get(setting)
    except SettingFileError as error:
        raise click.ClickException(str(error)) from None
    if not given:
        return None
    secret = given.split(",")[0].strip().rpartition(":")[2]
    if not secret.isprintable() or " " in secret:
        raise click.ClickException(f"the token has blanks in it, as no {setting} has")
    return secret


def authorization(secret: str) -> str:
    """The header that sends it: in UTF-8, because a node reads its settings so."""
    return f"Bearer {secret}".encode().decode("latin-1")
