"""How our command groups stand among Flask's own: listed first, and with a `--version`."""

import platform
from importlib.metadata import version

import click

from counter import __version__


class _First(str):
    """A name that sorts before every plain string: `flask --help` sorts what it lists."""

    __slots__ = ()

    def __lt__(self, other: str) -> bool:
        return not isinstance(other, _First) or str.__lt__(self, other)

    def __gt__(self, other: str) -> bool:
        return isinstance(other, _First) and str.__gt__(self, other)


def listed_first(command: click.Command) -> str:
    """The command's name, in a form that `flask --help` lists before Flask's own commands."""
    return _First(command.name)


def with_version(group: click.Group) -> click.Group:
    """Give a group the option `--version`; `flask --version` itself can only tell Flask's."""
    group.params.append(
        click.Option(
            ["--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_show_version,
            help="Show the versions of the visit counter, Flask and Python.",
        )
    )
    return group


def _show_version(context: click.Context, _option: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    click.echo(
        f"Visit counter {__version__}\nFlask {version('flask')}\nPython {platform.python_version()}"
    )
    context.exit()
