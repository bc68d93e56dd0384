"""The operator's commands, as `flask cluster ...`: they speak HTTP to a running node."""

import json
import os
import urllib.error
import urllib.request
from typing import Any

import click


def _default_url() -> str:
    return f"http://127.0.0.1:{os.environ.get('LISTEN_PORT') or 1234}"


@click.group()
def cluster() -> None:
    """Look at the cluster through one of its nodes."""


@cluster.command()
@click.option("--url", default=_default_url, show_default="this machine's LISTEN_PORT")
def status(url: str) -> None:
    """Show every member as a node sees it."""
    shown = _get(f"{url.rstrip('/')}/cluster")
    click.echo(
        f"{shown['node']} is {shown['state']}; store {_up(shown['store'])}, "
        f"transport {_up(shown['transport'])}"
    )
    for warning in shown["warnings"]:
        click.echo(f"warning: {warning}")
    rows = [("MEMBER", "STATE", "HEARD", "BEHIND", "VISITS")]
    for member in shown["members"]:
        state = member["state"] if member["live"] else "gone"
        heard = "never" if member["heard"] is None else f"{member['heard']:.1f} s ago"
        behind = "-" if member["behind"] is None else str(member["behind"])
        me = " (this node)" if member["self"] else ""
        rows.append((member["member"] + me, state or "-", heard, behind, str(member["visits"])))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _up(part: dict[str, Any]) -> str:
    return f"{part['kind']} {'up' if part['up'] else 'down'}"


def _get(url: str) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise click.ClickException(f"--url {url!r} is not an address; write http://HOST:PORT")
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 - http(s) only
            return dict(json.load(response))
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise click.ClickException(
            f"no node answers at {url} ({reason}); name one with --url http://HOST:PORT"
        ) from None
