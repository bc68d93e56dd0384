"""The operator's commands `flask cluster ...`, which speak HTTP to a running node."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import IO, Any
from urllib.parse import quote

import click

from counter.cli.addresses import checked_url, default_url
from counter.cli.corrections import COMMANDS
from counter.cli.tokens import authorization, secret_of

MAX_COLUMNS = 100
_GAP = "  "

_url = click.option("--url", default=default_url, show_default="this machine's LISTEN_PORT")


@click.group()
def cluster() -> None:
    """Look at the cluster through one of its nodes, correct numbers, block videos, and remove
    members that are gone for good."""


for _command in COMMANDS:
    cluster.add_command(_command)


@cluster.command()
@_url
@click.option("--json", "as_json", is_flag=True, help="Print what the node says, as JSON")
def status(url: str, as_json: bool) -> None:
    """Show every member as a node sees it."""
    shown = _get(url)
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    click.echo(
        f"{shown['node']} is {shown['state']}; store {_up(shown['store'])}, "
        f"transport {_up(shown['transport'])}"
    )
    folding = shown["folding"]
    waits_for = [
        blocker["member"] + (", an earlier life" if blocker["earlier_life"] else "")
        for blocker in folding["waits_for"]
    ]
    click.echo(
        f"ended runs to fold: {folding['closed_runs']}, folds done: {folding['folds']}"
        + (f"; waits for {' and '.join(waits_for)}" if waits_for else "")
    )
    if reading := shown.get("log"):
        waiting = reading.get("waiting")
        click.echo(
            f"visit log {reading['path']}: {reading['unread']} bytes not read"
            + (f"; {waiting} visits wait for an announcement" if waiting else "")
        )
    for warning in shown["warnings"]:
        click.echo(f"warning: {warning}")
    for table in tables(shown["members"]):
        click.echo("")
        for line in table:
            click.echo(line)


def tables(members: list[dict[str, Any]]) -> Iterator[list[str]]:
    """All facts of all members, one line each; columns that do not fit go into another table."""
    columns = [[head, *(cell(member) for member in members)] for head, cell in _COLUMNS]
    widths = [max(map(len, column)) for column in columns]
    shown = [0]
    for each in range(1, len(columns) + 1):
        wide = sum(widths[column] + len(_GAP) for column in shown)
        if each == len(columns) or wide + widths[each] > MAX_COLUMNS:
            yield [
                _GAP.join(columns[column][row].ljust(widths[column]) for column in shown).rstrip()
                for row in range(len(members) + 1)
            ]
            shown = [0]
        shown.append(each)


@cluster.command()
@click.argument("member", metavar="NAME~STORE")
@_url
@click.option("--token", help="An ADMIN_TOKEN of the node; default: the environment's")
@click.option("--yes", is_flag=True, help="Do not ask")
def remove(member: str, url: str, token: str | None, yes: bool) -> None:
    """Remove a member that is gone for good, so that nothing waits for it any more."""
    secret = secret_of(token, "ADMIN_TOKEN")
    if not secret:
        raise click.ClickException(
            "no token: set ADMIN_TOKEN to one of the node that is asked, or give --token"
        )
    shown = _get(url)
    known = {each["member"]: each for each in shown["members"]}
    if member not in known:
        of_name = [each for each in known if each.startswith(f"{member}~")]
        raise click.ClickException(
            f"{member!r} is no member that {shown['node']} knows; "
            + (f"is it {' or '.join(of_name)}?" if of_name else "`flask cluster status` lists them")
        )
    if not yes and not known[member]["removed"]:
        _confirm(known[member])
    if _delete(url, member, secret).get("already"):
        click.echo(f"{member} is removed already")
    else:
        click.echo(f"{member} is removed; all that the others have of its visits stays counted")


def _confirm(member: dict[str, Any]) -> None:
    click.echo(
        f"{member['member']}: {member['visits']} visits, last heard: {_heard(member)}\n"
        "They stay counted, and folding no longer waits for it. Given up is only what no store\n"
        "but its own holds of other nodes' ended runs, because theirs was lost or rolled back.\n"
        "If it starts again it is a member again, with all visits that its store holds of it."
    )
    try:
        click.confirm("Is it gone for good, and to be removed?", abort=True)
    except click.Abort:
        raise click.ClickException("nothing was removed; answer y, or give --yes") from None


def _state(member: dict[str, Any]) -> str:
    if member["removed"]:
        return "removed"
    return str(member["state"] or "-") if member["live"] else "silent"


def _short(member: dict[str, Any]) -> str:
    return "here" if member["self"] else _heard(member).removesuffix(" ago")


def _plain(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda member: "-" if member.get(key) is None else str(member[key])


def _rate(key: str) -> Callable[[dict[str, Any]], str]:
    return lambda member: "-" if member.get(key) is None else f"{member[key]:.1f}"


def _told(key: str) -> Callable[[dict[str, Any]], str]:
    """A store or a transport: its kind, and whether it is down."""

    def cell(member: dict[str, Any]) -> str:
        part = member.get(key)
        return "-" if part is None else part["kind"] + ("" if part["up"] else " down")

    return cell


_COLUMNS: tuple[tuple[str, Callable[[dict[str, Any]], str]], ...] = (
    ("MEMBER", _plain("member")),
    ("STATE", _state),
    ("HEARD", _short),
    ("BEHIND", _plain("behind")),
    ("VISITS", _plain("visits")),
    ("/S", _rate("visits_per_second")),
    ("MSG/S", _rate("messages_per_second")),
    ("RUNS", _plain("runs")),
    ("FOLDED", _plain("folded")),
    ("STORE", _told("store")),
    ("TRANSPORT", _told("transport")),
)


def _heard(member: dict[str, Any]) -> str:
    seconds = member["heard"]
    if seconds is None:
        return "never"
    if seconds < 60:
        return f"{seconds:.1f} s ago"
    return f"{seconds // 60:.0f} min ago" if seconds < 3600 else f"{seconds // 3600:.0f} h ago"


def _up(part: dict[str, Any]) -> str:
    return f"{part['kind']} {'up' if part['up'] else 'down'}"


def _get(url: str) -> dict[str, Any]:
    checked_url(url, "http", "https")
    shown = ask(urllib.request.Request(_cluster(url)))  # noqa: S310 - http(s) only
    if not {"node", "members", "folding"} <= shown.keys():
        raise click.ClickException(f"what answers at {url} is no node of this release")
    return shown


def _delete(url: str, member: str, secret: str) -> dict[str, Any]:
    headers = {"Authorization": authorization(secret)}
    address = f"{_cluster(url)}/{quote(member, safe='~')}"
    request = urllib.request.Request(address, headers=headers, method="DELETE")  # noqa: S310 - as above
    return ask(request, "removes nobody")


def _cluster(url: str) -> str:
    return f"{url.rstrip('/')}/cluster"


def ask(request: urllib.request.Request, refuses: str = "") -> dict[str, Any]:
    """The object that a node answers; ClickException if there is none.

    `refuses` says of what has no such endpoint what it does not do, for a request with a token.
    """
    try:
        # Never through a proxy: the address is that of a node.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=10) as response:
            return _object(response)
    except urllib.error.HTTPError as error:
        # The error is also the answer, and owns its connection.
        with error:
            if refuses:
                raise click.ClickException(_refusal(error, refuses)) from None
            reason = error.reason
    except (OSError, ValueError, HTTPException) as error:
        reason = str(getattr(error, "reason", error))
    raise click.ClickException(
        f"no node answers at {request.full_url} ({reason}); name one with --url http://HOST:PORT"
    )


def _refusal(error: urllib.error.HTTPError, refuses: str) -> str:
    """Why a node, or what answers in its place, does not do what it is asked."""
    node = error.headers.get("X-Served-By") or "what answers there"
    try:
        problem = _object(error)
    except (OSError, ValueError, HTTPException):
        problem = {}
    if error.code == 404 and problem.get("title") != "No such member":
        return (
            f"{node} {refuses}: ask a node itself, not the balancer, and one that has "
            "ADMIN_TOKEN set"
        )
    return f"{node} refuses: {problem.get('detail', f'status {error.code}')}"


def _object(response: IO[bytes]) -> dict[str, Any]:
    """The JSON object in an answer; raises ValueError if there is none."""
    answer = json.load(response)
    if not isinstance(answer, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - what is wrong is the text
    return answer
