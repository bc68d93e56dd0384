"""The operator's commands of the ledger: `flask cluster withdraw`, `block`, `unblock`,
`corrections`."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException
from typing import Any
from urllib.parse import urlencode

import click

from counter.cli.addresses import checked_url, default_url
from counter.cli.tokens import authorization, secret_of
from counter.crdt.gcounter import MAX_COUNT

_PATIENCE = 15
"""Seconds; a node answers within ten."""
_LONGEST = 40
"""Digits of a number that are read, and shown."""

_url = click.option("--url", default=default_url, show_default="this machine's LISTEN_PORT")
_token = click.option("--token", help="An ADMIN_TOKEN of the node; default: the environment's")
_reason = click.option("--reason", default="", help="Why, for everybody to read")
_key = click.option("--key", help="An Idempotency-Key: makes it safe to send this again")
_video = click.argument("video")


@click.command()
@_video
@click.argument("number", metavar="N|all")
@_reason
@_key
@_url
@_token
def withdraw(
    video: str, number: str, reason: str, key: str | None, url: str, token: str | None
) -> None:
    """Withdraw visits of a video, or all that it has; the record stays."""
    if number != "all" and not _is_number(number):
        said = repr(number) if len(number) <= _LONGEST else f"{number[:_LONGEST]!r}…"
        raise click.ClickException(
            f"{said} is no number of visits; give a whole number from 1 to {MAX_COUNT}, or all"
        )
    asked = {"video": video, "withdraw": "all" if number == "all" else int(number)}
    record, is_new = _post(url, token, asked | {"reason": reason}, key)
    already = "" if is_new else ", as this key did before"
    click.echo(f"{record['withdraw']} visits of {video} are withdrawn{already}: {record['id']}")


@click.command()
@_video
@_reason
@_key
@_url
@_token
def block(video: str, reason: str, key: str | None, url: str, token: str | None) -> None:
    """Take a video down: it takes no more visits, and is in no list."""
    _block(video, reason, key, url, token, blocked=True)


@click.command()
@_video
@_reason
@_key
@_url
@_token
def unblock(video: str, reason: str, key: str | None, url: str, token: str | None) -> None:
    """Bring a video back, with its number."""
    _block(video, reason, key, url, token, blocked=False)


@click.command()
@click.argument("video", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the records, as JSON")
@_url
@_token
def corrections(video: str | None, as_json: bool, url: str, token: str | None) -> None:
    """List what was withdrawn and blocked, newest first."""
    found = list(_records(url, token, video))
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    if not found:
        click.echo("no corrections" + (f" of {video}" if video else ""))
    for record in found:
        at = _time(record)
        number = f" {record['withdraw']}" if "withdraw" in record else ""
        why = f": {record['reason']}" if record["reason"] else ""
        click.echo(f"{at}  {record['act']}{number}  {record['video']}  by {record['by']}{why}")


def _is_number(text: str) -> bool:
    """Whether it is a number that a count can hold; of thousands of digits Python reads none."""
    digits = text.isascii() and text.isdecimal() and len(text) <= _LONGEST
    return digits and 1 <= int(text) <= MAX_COUNT


def _block(
    video: str, reason: str, key: str | None, url: str, token: str | None, *, blocked: bool
) -> None:
    """Block a video, or unblock it; of a repeat, say also how it stands now."""
    state = "blocked" if blocked else "not blocked"
    record, is_new = _post(url, token, {"video": video, "block": blocked, "reason": reason}, key)
    if is_new:
        click.echo(f"{video} is {state}: {record['id']}")
        return
    acts = (each["act"] for each in _records(url, token, video) if each["act"] != "withdraw")
    now = "blocked" if next(acts, record["act"]) == "block" else "not blocked"
    click.echo(
        f"this key did that before, at {_time(record)} UTC ({record['act']}: {record['id']}); now "
        f"{video} is {now}"
    )


def _time(record: dict[str, Any]) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(record["at"] / 1000))


def _records(url: str, token: str | None, video: str | None) -> Iterator[dict[str, Any]]:
    """All records, page by page."""
    asked: dict[str, str] = {"video": video} if video else {}
    while True:
        _, answer = _ask(url, token, "?" + urlencode(asked))
        yield from answer["corrections"]
        if "next" not in answer:
            return
        asked["after"] = answer["next"]


def _post(
    url: str, token: str | None, asked: dict[str, Any], key: str | None
) -> tuple[dict[str, Any], bool]:
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    status, record = _ask(url, token, "", json.dumps(asked).encode(), headers)
    return record, status == 201


def _ask(
    url: str,
    token: str | None,
    query: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, Any]]:
    """The status and the JSON object that a node answers; raises ClickException for a refusal."""
    secret = secret_of(token, "ADMIN_TOKEN")
    if not secret:
        raise click.ClickException(
            "no token: set ADMIN_TOKEN to one of the node that is asked, or give --token"
        )
    checked_url(url, "http", "https")
    sent = {"Authorization": authorization(secret)} | (headers or {})
    address = f"{url.rstrip('/')}/corrections{query}"
    request = urllib.request.Request(address, body, sent)  # noqa: S310 - http(s) only
    # Never through a proxy: the address is that of a node.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(request, timeout=_PATIENCE) as response:
            return response.status, _object(response.read)
    except urllib.error.HTTPError as error:
        # The error is also the answer, and owns its connection.
        with error:
            raise click.ClickException(_refusal(error)) from None
    except (OSError, ValueError, HTTPException) as error:
        reason = str(getattr(error, "reason", error))
        raise click.ClickException(
            f"no node answers at {address} ({reason}); name one with --url http://HOST:PORT"
        ) from None


def _refusal(error: urllib.error.HTTPError) -> str:
    """Why a node, or what answers in its place, refuses."""
    node = error.headers.get("X-Served-By") or "what answers there"
    try:
        detail = _object(error.read).get("detail")
    except (OSError, ValueError, HTTPException):
        detail = None
    return f"{node} refuses: {detail or f'status {error.code}'}"


def _object(read: Callable[[], bytes]) -> dict[str, Any]:
    answer = json.loads(read())
    if not isinstance(answer, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - what is wrong is the text
    return answer


COMMANDS = (withdraw, block, unblock, corrections)
