"""The operator's command `flask cluster why`, which asks a running node."""

import json
import urllib.request
from typing import Any
from urllib.parse import urlencode

import click

from counter.cli.addresses import checked_url, default_url
from counter.cli.cluster import ask
from counter.cli.tokens import authorization, secret_of


@click.command()
@click.option("--video", default="", help="The video that was visited")
@click.option("--agent", default="", help="What the visitor's program calls itself (User-Agent)")
@click.option("--address", default="", help="The address that the visitor came from")
@click.option("--purpose", default="", help="What its browser says it is for (Sec-Purpose)")
@click.option("--url", default=default_url, show_default="this machine's LISTEN_PORT")
@click.option("--token", help="An ADMIN_TOKEN of the node; default: the environment's")
@click.option("--json", "as_json", is_flag=True, help="Print what the node says, as JSON")
def why(
    video: str,
    agent: str,
    address: str,
    purpose: str,
    url: str,
    token: str | None,
    as_json: bool,
) -> None:
    """Say whether a visit would count, and which rule and setting decide that."""
    secret = secret_of(token, "ADMIN_TOKEN")
    if not secret:
        raise click.ClickException(
            "no token: set ADMIN_TOKEN to one of the node that is asked, or give --token"
        )
    checked_url(url, "http", "https")
    asked = {"video": video, "agent": agent, "address": address, "purpose": purpose}
    request = urllib.request.Request(  # noqa: S310 - http(s) only
        f"{url.rstrip('/')}/why?{urlencode(asked, errors='surrogateescape')}",
        headers={"Authorization": authorization(secret)},
    )
    told = ask(request, "does not say why")
    click.echo(json.dumps(told, indent=2) if as_json else sentence(told))


def sentence(told: dict[str, Any]) -> str:
    """What a node says, as one line."""
    if told["counted"]:
        return f"counts: {told['because']}"
    setting = f" ({told['setting']})" if told["setting"] else ""
    return f"does not count, {told['reason']}: {told['because']}{setting}"
