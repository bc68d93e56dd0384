"""The names of things: stores, runs, members, replicas, and the vectors of their counts.

A member is `NAME~store`, a replica `NAME~store.run`. Its vector goes by the replica's own id; what
was folded of a member's runs up to one of them, the fold mark, is the vector `NAME~store@mark`.
"""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME, _RANDOM = 10, 13
RUN_LENGTH = _TIME + _RANDOM
STORE_LENGTH = _RANDOM
DIGIT = "[0-9a-hjkmnp-tv-z]"


def encode_id(number: int, length: int) -> str:
    """`number` in `length` characters that sort like it (Crockford's base 32, lower case)."""
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(length)))


def mint_store(random: int) -> str:
    """The id of a new store, of 64 random bits."""
    return encode_id(random, STORE_LENGTH)


def mint_run(now: int, latest: str, random: int) -> str:
    """A run id never used before: 10 characters of time, 13 of 64 random bits.

    `now` is Unix time in ms; `latest` the newest run that the store knows, or "". The new run
    sorts after it, and is not earlier than the clock.
    """
    started = now
    if latest:
        known = 0
        for character in latest[:_TIME]:
            known = known << 5 | _ALPHABET.index(character)
        started = max(now, known + 1)
    return encode_id(started, _TIME) + encode_id(random, _RANDOM)


def replica_of(member: str, run: str) -> str:
    """The replica that was, or is, this run of a member."""
    return f"{member}.{run}"


def folded_of(member: str, mark: str) -> str:
    """The vector of a member's runs up to `mark`, folded into one."""
    return f"{member}@{mark}"


def is_folded(vector: str) -> bool:
    """Whether this is a folded vector, and not that of one run."""
    return vector[-RUN_LENGTH - 1] == "@"


def member_of(vector: str) -> str:
    """The member that a replica or a vector belongs to."""
    return vector[: -RUN_LENGTH - 1]


def run_of(vector: str) -> str:
    """The run of a replica, or the fold mark of a folded vector."""
    return vector[-RUN_LENGTH:]


def name_of(member: str) -> str:
    """The `NAME` of a member, a replica or a vector."""
    return member.partition("~")[0]
