"""All settings: name, default, unit, and what is wrong with a bad value.

Settings come from the environment. `Config.from_environ` checks all of them before anything is
opened. Its errors name the setting, its value and the remedy in one sentence.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from counter.crdt.ids import LOG_FILE, NAME

KEEP_ALIVE = 2
"""Seconds that an idle HTTP connection is kept; the balancer must close its own sooner."""

WORKER_CONNECTIONS = 11_000
LIVE_PAGES = 10_000
"""Most live pages: fewer than connections, so that visits always find a free connection."""


class ConfigError(ValueError):
    """A bad or contradictory setting; the message names it, its value and the remedy."""


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of a node. Times are in seconds; None means unset."""

    name: str | None = None
    listen_host: str = "127.0.0.1"
    listen_port: int = 1234
    redis_uri: str | None = None
    amqp_uri: str | None = None
    peers: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    data_dir: Path = Path("data")
    drain_time: float = 2.0
    ack: str = "stored"
    publish_interval: float = 0.1
    sync_interval: float = 1.0
    message_ttl: float = 30.0
    fold_after: float = 86_400.0
    join_timeout: float = 5.0
    cluster_secret: str | None = None
    admin_token: str | None = None
    log_level: str = "info"
    dev_mode: bool = False
    visit_log: Path | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Config":
        """Read and check the settings. Raises `ConfigError` for the first that is wrong."""
        read = _Reader(environ)
        config = cls(
            name=read.text("NAME", rf"{NAME}", "1 to 32 characters out of A-Z a-z 0-9 . _ -"),
            listen_host=read.host("LISTEN_HOST", "127.0.0.1"),
            listen_port=int(read.number("LISTEN_PORT", 1234, 1, 65535, whole=True)),
            redis_uri=read.uri("REDIS_URI", ("redis", "rediss"), "redis://localhost:6379/0"),
            amqp_uri=read.uri(
                "AMQP_URI", ("amqp", "amqps"), "amqp://user:secret@localhost:5672/%2F"
            ),
            peers=read.addresses("PEERS"),
            nodes=read.addresses("NODES"),
            data_dir=Path(environ.get("DATA_DIR") or "data"),
            drain_time=read.number("DRAIN_TIME", 2.0, 0, 600),
            ack=read.choice("ACK", ("stored", "memory")),
            publish_interval=read.number("PUBLISH_INTERVAL", 0.1, 0.01, 60),
            sync_interval=read.number("SYNC_INTERVAL", 1.0, 0.05, 600),
            message_ttl=read.number("MESSAGE_TTL", 30.0, 0.5, 3600),
            fold_after=read.number("FOLD_AFTER", 86_400.0, 0, 366 * 86_400),
            join_timeout=read.number("JOIN_TIMEOUT", 5.0, 0, 600),
            cluster_secret=read.text("CLUSTER_SECRET", r".{8,}", "8 characters or more"),
            admin_token=read.text("ADMIN_TOKEN", r"\S{8,}", "8 characters or more, no blanks"),
            log_level=read.choice("LOG_LEVEL", ("info", "debug", "warning", "error", "critical")),
            dev_mode=read.switch("DEV_MODE"),
            visit_log=read.file("VISIT_LOG"),
        )
        config._check_together()
        return config

    def _check_together(self) -> None:
        if self.redis_uri and not self.name:
            raise ConfigError(
                "NAME is not set, and REDIS_URI needs it to keep several nodes on one Redis "
                "apart; set NAME to a name of this node's own, such as counter1"
            )
        if self.amqp_uri and self.peers:
            raise ConfigError(
                f"PEERS={','.join(self.peers)!r} is for the full mesh, and AMQP_URI chooses "
                "RabbitMQ; unset one of them"
            )
        if not self.amqp_uri and not self.cluster_secret and not _is_loopback(self.listen_host):
            raise ConfigError(
                f"LISTEN_HOST={self.listen_host!r} lets other machines post messages to this "
                "node; set the same CLUSTER_SECRET on every node, or AMQP_URI, or listen on "
                "127.0.0.1"
            )
        if self.message_ttl < self.sync_interval:
            raise ConfigError(
                f"MESSAGE_TTL={self.message_ttl:g} is shorter than SYNC_INTERVAL="
                f"{self.sync_interval:g}; set it to several times SYNC_INTERVAL"
            )


class _Reader:
    """Reads one setting at a time; an empty value counts as unset."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def text(self, setting: str, pattern: str, remedy: str) -> str | None:
        value = self._environ.get(setting)
        if value and not re.fullmatch(pattern, value):
            shown = "the value" if "SECRET" in setting or "TOKEN" in setting else repr(value)
            raise ConfigError(f"{setting}: {shown} is not allowed; use {remedy}")
        return value or None

    def number(
        self, setting: str, default: float, least: float, most: float, *, whole: bool = False
    ) -> float:
        value = self._environ.get(setting)
        if not value:
            return default
        pattern = r"[0-9]{1,9}" if whole else r"[0-9]{1,9}(\.[0-9]{1,9})?"
        number = float(value) if re.fullmatch(pattern, value) else float("nan")
        if not least <= number <= most:
            kind = "a whole number" if whole else "a number of seconds"
            raise ConfigError(
                f"{setting}={value!r} is not {kind} from {least:.10g} to {most:.10g}; "
                f"the default is {default:.10g}"
            )
        return number

    def choice(self, setting: str, choices: tuple[str, ...]) -> str:
        value = (self._environ.get(setting) or choices[0]).lower()
        if value not in choices:
            raise ConfigError(f"{setting}={value!r} is none of {', '.join(choices)}")
        return value

    def switch(self, setting: str) -> bool:
        value = (self._environ.get(setting) or "0").lower()
        if value not in ("0", "1", "off", "on", "false", "true", "no", "yes"):
            raise ConfigError(f"{setting}={value!r} is neither on (1) nor off (0)")
        return value in ("1", "on", "true", "yes")

    def file(self, setting: str) -> Path | None:
        value = self._environ.get(setting)
        if not value:
            return None
        path = Path(value)
        problem = ""
        if path.is_dir():
            problem = "is a folder"
        elif not re.fullmatch(LOG_FILE, path.name):
            problem = "has a name of other characters than A-Z a-z 0-9 . _ -"
        elif not path.parent.is_dir():
            problem = "lies in a folder that is not there"
        if problem:
            raise ConfigError(
                f"{setting}={value!r} {problem}; set it to a file in the folder that nginx "
                "writes its logs to, such as visits/counter1.log"
            )
        return path

    def host(self, setting: str, default: str) -> str:
        value = self._environ.get(setting) or default
        if not re.fullmatch(r"[A-Za-z0-9.:-]+", value):
            raise ConfigError(f"{setting}={value!r} is not an address to listen on; try {default}")
        return value

    def uri(self, setting: str, schemes: tuple[str, ...], example: str) -> str | None:
        value = self._environ.get(setting)
        if not value:
            return None
        problem = _uri_problem(value, schemes)
        if (
            not problem
            and setting == "REDIS_URI"
            and not re.fullmatch(r"|/[0-9]*", urlsplit(value).path)
        ):
            problem = "names a database that is no number"
        if problem:
            # The value may hold a password.
            raise ConfigError(f"{setting} {problem}; write it like {example}")
        return value

    def addresses(self, setting: str) -> tuple[str, ...]:
        given = tuple(filter(None, map(str.strip, self._environ.get(setting, "").split(","))))
        for address in given:
            problem = _uri_problem(address, ("http",))
            if not problem and "@" in address:
                problem = "has a user or password, which no node asks for"
            elif not problem and urlsplit(address).path not in ("", "/"):
                problem = "has a path"
            if problem:
                shown = "an address" if "@" in address else repr(address)
                raise ConfigError(
                    f"{setting}: {shown} {problem}; write the {setting.lower()} like "
                    "http://10.0.0.1:1234,http://10.0.0.2:1234"
                )
        return given


def _uri_problem(value: str, schemes: tuple[str, ...]) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return "has a port or host that cannot be read"
    if parts.scheme not in schemes:
        return f"starts with {parts.scheme + '://'!r}" if parts.scheme else "has no scheme"
    if not parts.hostname or port == 0 or re.search(r"\s", parts.netloc):
        return "names no host and port"
    # The libraries would read options there, and override those that the adapters rely on.
    if parts.query or parts.fragment:
        return "has options behind its path (?...), which are not used"
    return ""


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
