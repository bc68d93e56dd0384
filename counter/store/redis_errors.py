"""What an error of Redis means: it passes, or what is at the address can never be used as it is."""

import re

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from counter import tls

KEYED = [
    "DEL", "EXISTS", "GET", "HDEL", "HGET", "HGETALL", "HKEYS", "HMGET", "HSCAN", "HSET", "HVALS",
    "PTTL", "RENAMENX", "SADD", "SET", "SMEMBERS", "SREM", "SUNIONSTORE", "UNLINK", "WATCH",
]  # fmt: skip
"""The commands that a user must be allowed on the keys of a store."""
KEYLESS = ["EXEC", "MULTI", "SCRIPT|LOAD", "UNWATCH"]
COMMANDS = ["EVALSHA", *KEYED, *KEYLESS]
"""All that a user must be allowed; SELECT as well for another database than 0."""

_PASSING = (
    "ASK", "BUSY", "EXECABORT", "LOADING", "MASTERDOWN", "MISCONF", "NOREPLICAS",
    "OOM", "READONLY", "TRYAGAIN", "UNKILLABLE",
)  # fmt: skip
"""Redis may recover from those: it is read-only, for example, until a failover is over."""
_CLUSTER = ("CLUSTERDOWN", "CROSSSLOT", "MOVED")


def refusal(error: RedisError | OSError, where: str, prefix: str) -> str:
    """Why Redis `where` can never be used as it is, in one sentence; "" if trying again may help.

    `prefix` is what the keys of the store begin with.
    """
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    if code in _PASSING:
        return ""
    if code in _CLUSTER:
        return (
            f"REDIS_URI: Redis at {where} is in cluster mode ({code}), in which one write cannot "
            "change all keys of a node; name a Redis with cluster-enabled no"
        )
    if isinstance(error, NoPermissionError):
        named = re.search("the '([a-z|]+)' command", str(error))
        return (
            f"REDIS_URI: Redis at {where} does not let this user do what a node must ({error}); "
            f"{_remedy(prefix, [named[1]] if named else COMMANDS)}"
        )
    if isinstance(error, AuthenticationError | AuthorizationError):
        return f"REDIS_URI: Redis at {where} refuses this user ({error}); check user and password"
    if problem := tls.refusal(error):
        return f"REDIS_URI: no node can talk to Redis at {where}: {problem}"
    if "DB index is out of range" in str(error):
        return (
            f"REDIS_URI: Redis at {where} has no database of this number ({error}); name one from "
            "0 to 15, or raise `databases` in its configuration"
        )
    if isinstance(error, InvalidResponse | ResponseError):
        return no_redis(where, str(error))
    return ""


def not_permitted(where: str, prefix: str, commands: list[str]) -> str:
    """The sentence about commands that the user may not run on the keys of the store."""
    return (
        f"REDIS_URI: Redis at {where} does not let this user run {', '.join(commands)} on "
        f"{prefix}*; {_remedy(prefix, commands)}"
    )


def no_redis(where: str, what: str) -> str:
    """The sentence about something else at the address."""
    return (
        f"REDIS_URI: what answers at {where} is not a Redis that can be written to ({what}); name "
        "the address of one"
    )


def encrypted(where: str) -> str:
    """The sentence about a Redis that expects TLS, and is not asked for it."""
    return f"REDIS_URI: what answers at {where} speaks TLS; write rediss:// for redis://"


def not_encrypted(where: str) -> str:
    """The sentence about a Redis that is asked for TLS, and answers without."""
    return f"REDIS_URI: Redis at {where} does not speak TLS; write redis:// for rediss://"


def _remedy(prefix: str, commands: list[str]) -> str:
    allowed = " ".join(f"+{command.lower()}" for command in commands)
    return f"allow it: ACL SETUSER USER ~{prefix}* {allowed}"
