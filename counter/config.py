"""All settings: name, default, unit, and what is wrong with a bad value.

Settings come from the environment. `Config.from_environ` checks all of them before anything is
opened. Its errors name the setting, its value and the remedy in one sentence.
"""

import ipaddress
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from counter.addresses import network
from counter.crdt.ids import LOG_FILE, NAME
from counter.setting_files import IN_FILES, SettingFileError, with_files
from counter.tls import CA_FILE, CA_OPTION, ENCRYPTED, ca_problem, without_ca
from counter.tokens import Token, parse_tokens

KEEP_ALIVE = 2
"""Seconds that an idle HTTP connection is kept; the balancer must close its own sooner."""

_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp", "Zs")
"""Unicode's categories of what is not seen: control and format characters, ends of lines, bytes
that are not UTF-8, and blanks, of which only the plain one is meant."""
_EMPTY = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
"""What is not seen, and of another category: fillers, and a letter of Braille without dots."""
_QUOTES = "\"'\u00ab\u00bb\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\u2039\u203a\uff02\uff07"
"""Those of an env file, which some programs take for a part of the value, and those of a text."""
_ENCODED = {"/": "%2F", "?": "%3F", "#": "%23", "[": "%5B", "]": "%5D", " ": "%20"}
"""What ends or splits the user and password of a URI, and how it is written there."""

ANY_HOST = "*"
"""In `ALLOWED_HOSTS`: any name."""
LOOPBACK_NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback")

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
    redis_uri: str | None = field(default=None, repr=False)
    amqp_uri: str | None = field(default=None, repr=False)
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
    cluster_secret: str | None = field(default=None, repr=False)
    admin_token: str | None = field(default=None, repr=False)
    write_token: str | None = field(default=None, repr=False)
    max_count: int = 1000
    log_level: str = "info"
    dev_mode: bool = False
    visit_log: Path | None = None
    new_videos: int = 100
    videos: str = "open"
    address_connections: int = 500
    trusted_proxies: tuple[str, ...] = ("127.0.0.0/8", "::1")
    allowed_hosts: tuple[str, ...] = ()
    bots: str = "crawlers"
    repeat_window: float = 0.0
    viewers: bool = False
    viewers_keep: int = 90

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Config":
        """Read and check the settings. Raises `ConfigError` for the first that is wrong.

        Those in `IN_FILES` may be in a file that `..._FILE` names.
        """
        try:
            settings = with_files(environ)
        except SettingFileError as error:
            raise ConfigError(str(error)) from None
        try:
            return cls._read(settings)
        except ConfigError as error:
            for name in IN_FILES:
                if environ.get(f"{name}_FILE") and re.match(rf"{name}\b", str(error)):
                    raise ConfigError(f"{name}_FILE: {error}") from None
            raise

    @classmethod
    def _read(cls, environ: Mapping[str, str]) -> "Config":
        for setting in fields(cls):
            _check_characters(setting.name.upper(), environ.get(setting.name.upper()) or "")
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
            admin_token=read.tokens("ADMIN_TOKEN"),
            write_token=read.tokens("WRITE_TOKEN"),
            max_count=int(read.number("MAX_COUNT", 1000, 1, 10**9, whole=True)),
            log_level=read.choice("LOG_LEVEL", ("info", "debug", "warning", "error", "critical")),
            dev_mode=read.switch("DEV_MODE"),
            visit_log=read.file("VISIT_LOG"),
            new_videos=int(read.number("NEW_VIDEOS", 100, 0, 1_000_000, whole=True)),
            videos=read.choice("VIDEOS", ("open", "known")),
            address_connections=int(
                read.number("ADDRESS_CONNECTIONS", 500, 1, WORKER_CONNECTIONS, whole=True)
            ),
            trusted_proxies=read.networks("TRUSTED_PROXIES", ("127.0.0.0/8", "::1")),
            allowed_hosts=read.hosts("ALLOWED_HOSTS"),
            bots=read.choice("BOTS", ("crawlers", "count", "programs")),
            repeat_window=read.window("REPEAT_WINDOW"),
            viewers=read.switch("VIEWERS"),
            viewers_keep=int(read.number("VIEWERS_KEEP", 90, 1, 3_660, whole=True)),
        )
        config._check_together()
        return config

    def admin_tokens(self) -> tuple[Token, ...]:
        """The tokens that allow everything; empty if there is none."""
        return parse_tokens(self.admin_token, "admin") if self.admin_token else ()

    def write_tokens(self) -> tuple[Token, ...]:
        """The tokens that allow large batches; empty if there is none."""
        return parse_tokens(self.write_token, "write") if self.write_token else ()

    def _check_together(self) -> None:
        secrets = {token.secret for token in self.admin_tokens()}
        if any(token.secret in secrets for token in self.write_tokens()):
            raise ConfigError(
                "WRITE_TOKEN has a secret of ADMIN_TOKEN, which allows everything; use another one"
            )
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
        if not self.amqp_uri and not self.cluster_secret and not is_loopback(self.listen_host):
            raise ConfigError(
                f"LISTEN_HOST={self.listen_host!r} lets other machines post messages to this "
                "node; set the same CLUSTER_SECRET on every node, or AMQP_URI, or listen on "
                "127.0.0.1"
            )
        if (self.amqp_uri or self.peers) and not self.cluster_secret:
            asks = f"REPEAT_WINDOW={self.repeat_window:g}" if self.repeat_window else "VIEWERS=on"
            if self.repeat_window or self.viewers:
                raise ConfigError(
                    f"{asks} needs CLUSTER_SECRET where there are other nodes, or one viewer is "
                    "another at each of them; set the same CLUSTER_SECRET on every node, or unset "
                    f"{asks.partition('=')[0]}"
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
            shown = "the value" if _may_be_secret(setting, value) else repr(value)
            raise ConfigError(f"{setting}: {shown} is not allowed; use {remedy}")
        return value or None

    def tokens(self, setting: str) -> str | None:
        value = self._environ.get(setting)
        if not value:
            return None
        try:
            parse_tokens(value, "")
        except ValueError as error:
            raise ConfigError(f"{setting}: {error}") from None
        return value

    def number(
        self, setting: str, default: float, least: float, most: float, *, whole: bool = False
    ) -> float:
        value = self._environ.get(setting)
        if not value:
            return default
        pattern = r"[0-9]{1,10}" if whole else r"[0-9]{1,9}(\.[0-9]{1,9})?"
        number = float(value) if re.fullmatch(pattern, value) else float("nan")
        if not least <= number <= most:
            kind = "a whole number" if whole else "a number of seconds"
            raise ConfigError(
                f"{setting}={value!r} is not {kind} from {least:.10g} to {most:.10g}; "
                f"the default is {default:.10g}"
            )
        return number

    def window(self, setting: str) -> float:
        """Some seconds, or 0 for off: what is shorter than a second holds nobody."""
        number = self.number(setting, 0.0, 0, 86_400)
        if 0 < number < 1:
            raise ConfigError(
                f"{setting}={self._environ[setting]!r} is less than a second; set 0, which is off, "
                "or a number of seconds from 1 to 86400"
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

    def networks(self, setting: str, default: tuple[str, ...]) -> tuple[str, ...]:
        given = self._listed(setting)
        for each in given:
            try:
                network(each)
            except ValueError as error:
                raise ConfigError(
                    f"{setting}: {each!r} is neither an address nor a network ({error}); write "
                    "them like 10.0.0.7,10.1.0.0/16"
                ) from None
        return given or default

    def hosts(self, setting: str) -> tuple[str, ...]:
        given = tuple(each.lower().rstrip(".") for each in self._listed(setting))
        for each in given:
            if each != ANY_HOST and not re.fullmatch(r"[a-z0-9._-]+", each):
                raise ConfigError(
                    f"{setting}: {each!r} is not the name of a host; write names without ports, "
                    f"like counter.example,counter1, or {ANY_HOST} for any"
                )
        return given

    def _listed(self, setting: str) -> tuple[str, ...]:
        return tuple(filter(None, map(str.strip, (self._environ.get(setting) or "").split(","))))

    def uri(self, setting: str, schemes: tuple[str, ...], example: str) -> str | None:
        value = self._environ.get(setting)
        if not value:
            return None
        bare, ca_file = without_ca(value)
        problem = _uri_problem(bare, schemes) or _user_problem(bare, setting)
        if (
            not problem
            and setting == "REDIS_URI"
            and not re.fullmatch(r"|/[0-9]*", urlsplit(bare).path)
        ):
            problem = "names a database that is no number"
        if problem and (strange := _unencoded(bare)):
            # Otherwise the password would be taken for a host, a path or options.
            example = f"{' and '.join(f'{each!r} as {_ENCODED[each]}' for each in strange)}"
            problem = "has a character in its user or password that has a meaning in a URI"
            if _has_at_behind_host(bare):
                # Or it is not of a password: which of the two is meant nobody can tell.
                problem += ", or an @ behind its host"
                example += " in a user or password, and an @ behind the host as %40"
            raise ConfigError(f"{setting} {problem}; write {example}")
        if problem:
            # The value may hold a password.
            raise ConfigError(f"{setting} {problem}; write it like {example}")
        if ca_file is not None:
            self._check_ca(setting, urlsplit(bare).scheme, ca_file)
        return value

    def _check_ca(self, setting: str, scheme: str, file: str) -> None:
        if scheme not in ENCRYPTED:
            raise ConfigError(
                f"{setting} has {CA_OPTION}={file!r}, which is for TLS, and begins with "
                f"{scheme}://; write {scheme}s://, or leave out the option"
            )
        if problem := ca_problem(file):
            raise ConfigError(
                f"{setting}: {CA_OPTION}={file!r} {problem}; set it to a file with the "
                "certificate (PEM) of the authority that has signed the server's"
            )

    def addresses(self, setting: str) -> tuple[str, ...]:
        given = self._listed(setting)
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
        return f"has options behind its path other than ?{CA_FILE}, which are not used"
    return ""


def _user_problem(value: str, setting: str) -> str:
    """What is wrong with the user and password of a URI that can be read otherwise."""
    parts = urlsplit(value)
    if setting == "AMQP_URI" and parts.username is not None and parts.password is None:
        return "names a user and no password"
    user = parts.netloc.rpartition("@")[0]
    if "[" in user or "]" in user:
        return "has a bracket in its user or password"
    if "@" in parts.path:
        # Behind a password with a / in it, or in a virtual host, where it can be written %40.
        return "has an @ in its path"
    return ""


def _unencoded(value: str) -> list[str]:
    """What stands in the user or password of a URI, and must be written otherwise there."""
    before = value.partition("://")[2].rpartition("@")[0]
    return [each for each in _ENCODED if each in before]


def _has_at_behind_host(value: str) -> bool:
    """Whether it can be read with a host and port before an @."""
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return False
    return bool(parts.hostname) and port != 0 and "@" in value.partition(parts.netloc)[2]


def _check_characters(setting: str, value: str) -> None:
    """Raise `ConfigError` for a character that nobody means to be part of a setting."""
    shown = "the value" if _may_be_secret(setting, value) else repr(value)
    for character in value:
        if character != " " and _is_unseen(character):
            remedy = "write it without"
            if character == "\r":
                remedy = "write the env file with the line ends of Unix: it has those of Windows"
            elif unicodedata.category(character) == "Cs":
                remedy = "write it in UTF-8"
            raise ConfigError(
                f"{setting}: {shown} has a character that is not seen, {character!r}; {remedy}"
            )
        if character in _QUOTES:
            remedy = "write it without, also in an env file"
            if setting.endswith("_URI"):
                remedy += ", and one that belongs to a password as %22 or %27"
            raise ConfigError(
                f"{setting}: {shown} has a quotation mark, {character}, in it; {remedy}"
            )


def _is_unseen(character: str) -> bool:
    return unicodedata.category(character) in _INVISIBLE or character in _EMPTY


def _may_be_secret(setting: str, value: str) -> bool:
    named = any(word in setting for word in ("SECRET", "TOKEN", "_URI"))
    return named or (setting in ("PEERS", "NODES") and "@" in value)


def is_loopback(host: str) -> bool:
    """Whether a name or an address is of the machine that asks for it, and of no other."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK_NAMES
