"""The names of things: stores, runs, members, replicas, and the vectors of their counts.

A member is `NAME~store`, a replica `NAME~store.run`. Its vector goes by the replica's own id; what
was folded of a member's runs up to one of them, the fold mark, is the vector `NAME~store@mark`.
"""

import re

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_TIME, _RANDOM = 10, 13
_MS_A_DAY = 86_400_000
RUN_LENGTH = _TIME + _RANDOM
STORE_LENGTH = _RANDOM
DIGIT = "[0-9a-hjkmnp-tv-z]"
LONGEST_VIDEO = 128
"""The most characters of a video's id."""
STEPS = (".", "..")
"""No ids of videos: in a path, browsers and proxies take these for steps between folders."""
_OF_VIDEO = "[A-Za-z0-9._~-]"
VIDEO = rf"(?!\.{{1,2}}(?!{_OF_VIDEO})){_OF_VIDEO}{{1,{LONGEST_VIDEO}}}"
"""A video's id, as a regular expression, like the next three; none of the `STEPS`."""
is_video = re.compile(VIDEO).fullmatch
"""Whether a text is a video's id."""
LONGEST_CELL = 160
CELL = rf"[A-Za-z0-9._~/-]{{1,{LONGEST_CELL}}}"
"""What a count may stand under: a video, or a key of a newer version, which is listed nowhere."""
NAME = r"[A-Za-z0-9._-]{1,32}"
"""The name of a node."""
KEY = r"[\x21-\x7e]{1,128}"
"""An idempotency key."""
ANNOUNCED = "/known"
"""The end of the key under which an announcement of a video is counted."""
BLOCKED = "/blocked"
"""The end of the key under which visits of a blocked video are counted, which are none of it."""
LOG_FILE = r"[A-Za-z0-9._-]{1,64}"
"""The name of a visit log's file."""


def encode_id(number: int, length: int) -> str:
    """`number` in `length` characters that sort like it (Crockford's base 32, lower case)."""
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(length)))


END_OF_RUNS = encode_id(7_258_118_400_000, _TIME)
"""All run ids are smaller: it is the year 2200. So every run that is known has a successor."""
END_OF_HEARSAY = encode_id(6_942_585_600_000, _TIME)
"""The year 2190: of later runs only their own member can tell. Others could claim the last run of
all, which would leave a member no successor; so there are ten years of them, one a millisecond."""


def _smaller(end: str) -> str:
    """A regular expression for all ids of this length that sort before `end`."""
    before = (_ALPHABET[: _ALPHABET.index(character)] for character in end)
    choices = [
        f"{end[:place]}[{smaller}]{DIGIT}{{{len(end) - place - 1}}}"
        for place, smaller in enumerate(before)
        if smaller
    ]
    return "|".join(choices)


RUN = rf"(?:{_smaller(END_OF_RUNS)}){DIGIT}{{{_RANDOM}}}"
"""A run id, as a regular expression."""


def mint_store(random: int) -> str:
    """The id of a new store, of 64 random bits."""
    return encode_id(random, STORE_LENGTH)


def mint_run(now: int, latest: str, random: int) -> str:
    """A run id never used before: 10 characters of time, 13 of 64 random bits.

    `now` is Unix time in ms; `latest` the newest run that the store knows, or "". The new run
    sorts after it, and is not earlier than the clock. It only orders: when the run began is told
    apart from it.
    """
    known = _time_of(latest) if latest else -1
    end = _time_of(END_OF_RUNS)
    # A clock beyond that is no clock.
    started = max(known + 1, now if now < _time_of(END_OF_HEARSAY) else 0)
    later = number_of(latest[_TIME:]) + 1 + random % 2**32
    if started < end or later >> 5 * _RANDOM:
        return encode_id(started, _TIME) + encode_id(random, _RANDOM)
    return latest[:_TIME] + encode_id(later, _RANDOM)


def _time_of(run: str) -> int:
    return number_of(run[:_TIME])


def number_of(text: str) -> int:
    """The number that was encoded so; 0 for no text at all."""
    number = 0
    for character in text:
        number = number << 5 | _ALPHABET.index(character)
    return number


def day_of(run: str) -> int:
    """The day that a run is reported under: the same at every node, as it follows from the id.

    It is not when the run began, for ids only order.
    """
    return _time_of(run) // _MS_A_DAY


def replica_of(member: str, run: str) -> str:
    """The replica that was, or is, this run of a member."""
    return f"{member}.{run}"


def folded_of(member: str, mark: str) -> str:
    """The vector of a member's runs up to `mark`, folded into one."""
    return f"{member}@{mark}"


def is_folded(vector: str) -> bool:
    """Whether this is a folded vector, and not that of one run."""
    return vector[-RUN_LENGTH - 1] == "@"


def kept_as(vector: str) -> str:
    """What a store keeps a vector under: a folded one without its mark, which is a fact beside it.

    So a fold renames nothing there.
    """
    return vector[:-RUN_LENGTH] if is_folded(vector) else vector


def member_of(vector: str) -> str:
    """The member that a replica or a vector belongs to."""
    return vector[: -RUN_LENGTH - 1]


def run_of(vector: str) -> str:
    """The run of a replica, or the fold mark of a folded vector."""
    return vector[-RUN_LENGTH:]


def name_of(member: str) -> str:
    """The `NAME` of a member, a replica or a vector."""
    return member.partition("~")[0]


def is_listed(key: str) -> bool:
    """Whether what is counted under this key is a video.

    Other keys, which announce a video or which a newer version may tell, are kept and told as well,
    and listed nowhere.
    """
    return "/" not in key and len(key) <= LONGEST_VIDEO
