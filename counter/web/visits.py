"""The endpoint that counts many visits at once, and a repeated request only once."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from string import ascii_letters, digits
from typing import Annotated, Any, NoReturn

import msgspec
from flask import Blueprint, Response, request

from counter.config import Config
from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import STEPS
from counter.crdt.limits import FullError
from counter.node.counting import KeyTakenError, MaybeCountedError, NotCountedError
from counter.node.judge import Visitor
from counter.node.new_videos import TooManyNewError, UnannouncedError
from counter.node.node import Node
from counter.node.outcomes import Reasons, counting
from counter.node.turns import Turns
from counter.protocol.client import Client
from counter.protocol.key_room import NoRoomError
from counter.web import bodies
from counter.web.addresses import address_of
from counter.web.clients import clients
from counter.web.keys import REPLAYED, key_of
from counter.web.own import Sent
from counter.web.problems import Problem
from counter.web.results import Results, result
from counter.web.tokens import Tokens
from counter.web.videos import full, is_asked, refused_id

MAX_RECORDS = 10_000
MAX_TRUSTED = 10**12
"""Most visits of one record that comes with a token."""
MAX_VISITS = 100_000
"""Most visits of one request without a token, unless `MAX_COUNT` is more."""
MAX_BYTES = 1024 * 1024

_EXAMPLE = '{"video": "cats", "count": 2}'
_LONGEST = 128
_OF_IDS = f"{ascii_letters}{digits}._~-".encode()
_BLANK = re.compile(r"[ \t\r\n]*")
_line = re.compile(r"[^ \t\r\n][^\n]*")
"""A line that is not blank, without the blanks before it: a million blank lines are one search."""
_BOM = b"\xef\xbb\xbf"
"""What programs on Windows write before UTF-8."""
_MAX_DIGITS = 1000
_MAX_RECORD = 4096
"""Characters of a record that are looked at where something is wrong."""
_LARGE = 16 * 1024
"""Bytes of a body that takes ms: some 600 records."""
_AT_ONCE = 100
"""Records that are looked at before others have their turn."""


class Record(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Visits of one video. Ids and limits are checked elsewhere, for all records together."""

    video: str
    count: Annotated[int, msgspec.Meta(ge=1, le=MAX_COUNT)] = 1


_record = msgspec.json.Decoder(Record).decode
Decode = Callable[[bytes], list[Record]]


class Limits:
    """The most visits that one record, and all of one request, may add; how to add more."""

    def __init__(self, record: int, request: int, remedy: str = "") -> None:
        self.record, self.request, self.remedy = record, request, remedy
        # In the type the limit is checked by the decoder, which costs nothing.
        count = ("count", Annotated[int, msgspec.Meta(ge=1, le=record)], 1)
        limited: type[Record] = msgspec.defstruct(  # type: ignore[assignment]  # its base is known
            "Limited", [count], bases=(Record,), forbid_unknown_fields=True, gc=False
        )
        self.decode: Mapping[str, Decode] = {
            "application/json": msgspec.json.Decoder(list[limited]).decode,  # type: ignore[valid-type]
            "application/x-ndjson": msgspec.json.Decoder(limited).decode_lines,
        }
        """How the records are read from a body of each type."""


TRUSTED = Limits(MAX_TRUSTED, MAX_RECORDS * MAX_TRUSTED)
"""What a request with a token may add."""
KINDS = tuple(TRUSTED.decode)


def limits_of_strangers(config: Config) -> Limits:
    """What a request without a token may add."""
    remedy = " without a token; send Authorization: Bearer with a WRITE_TOKEN of this node"
    return Limits(config.max_count, max(config.max_count, MAX_VISITS), remedy)


def blueprint(node: Node) -> Blueprint:
    """`POST /visits`."""
    pages = Blueprint("visits", __name__)
    tokens, of_strangers = Tokens(node.config), limits_of_strangers(node.config)
    results, who = Results(), clients(node)

    @pages.post("/visits")
    @bodies.reads(MAX_BYTES)
    def visits() -> Response:
        label = tokens.label_of(request)
        kind = request.mimetype
        if kind not in KINDS or request.headers.get("Content-Encoding", "identity") != "identity":
            raise Problem(
                415,
                "Not records",
                f"send {' or '.join(KINDS)}, uncompressed: {_EXAMPLE} for each video",
            )
        key = key_of(request)
        body = request.get_data(cache=False)
        if len(body) > MAX_BYTES:
            raise Problem(413, "Too large", f"send at most {MAX_BYTES} bytes at once")
        if len(body) > _LARGE:
            node.counting.turns.wait()
        limits = of_strangers if label is None else TRUSTED
        records, counts = read(kind, body, limits)
        client = Client(address_of(request, node.config), label)
        person = who.person(request.environ) if is_asked("own") else None
        agent = request.headers.get("User-Agent", "")
        sent = Sent(node, Visitor(agent, lambda: client, not is_asked("own"), person))
        try:
            node.counting.wait_until_open()
        except NotCountedError as error:
            raise _not_counted(error) from None
        now = sent.judged(counts)
        whole = fingerprint(kind, body) if key else b""
        reasons = _count(node, client, sent, counts, now, key, whole)
        is_new = reasons is not None
        if key and reasons is not None:
            results.remember(client.key(key), reasons)
        elif key:
            taken = node.counting.fingerprint_of(key, client)
            changeable = node.corrections.ever_blocked(counts.keys())
            reasons = results.of_first(client.key(key), taken, whole, counts, now, changeable)
        answer: dict[str, Any] = {"records": records, "visits": None}
        if reasons is not None:
            answer["visits"] = sum(counting(counts, reasons, once=sent.once).values())
            if is_asked("detail"):
                each = sent.each(_videos(kind, body, limits), reasons)
                answer["results"] = [result(reason) for reason in each]
        if not is_new:
            answer["repeated"] = True
        response = Response(msgspec.json.encode(answer) + b"\n", content_type="application/json")
        if not is_new:
            response.headers[REPLAYED] = "true"
        return response

    return pages


def read(kind: str, body: bytes, limits: Limits) -> tuple[int, dict[str, int]]:
    """How many records a body holds, and the visits of each video; a `Problem` for a bad one."""
    body = body.removeprefix(_BOM)
    try:
        records = limits.decode[kind](body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # ValueError: no UTF-8
        _refuse(kind, body, limits, str(error))
    if len(records) > MAX_RECORDS:
        raise Problem(
            413, "Too many records", f"{len(records)} records are more than {MAX_RECORDS}"
        )
    counts: dict[str, int] = {}
    counted = counts.get
    for record in records:
        video = record.video
        counts[video] = counted(video, 0) + record.count
    if not _are_ids(counts):
        _refuse(kind, body, limits, "a video's id is none")
    if counts and max(counts.values()) > MAX_COUNT:
        _refuse(kind, body, limits, "the visits of a video are beyond the limit")
    if (visits := sum(counts.values())) > limits.request:
        raise Problem(
            422,
            "Beyond the limit",
            f"no visit was counted: {visits} visits are more than {limits.request}, the most that "
            f"a request may add{limits.remedy}",
            {"limit": limits.request},
        )
    return len(records), counts


def _videos(kind: str, body: bytes, limits: Limits) -> list[str]:
    """The video of each record of a body that was read before."""
    return [record.video for record in limits.decode[kind](body.removeprefix(_BOM))]


def fingerprint(kind: str, body: bytes) -> bytes:
    """16 bytes that tell a request from other requests."""
    return blake2b(b"%s\n%s" % (kind.encode(), body), digest_size=16).digest()


def _count(
    node: Node,
    client: Client,
    sent: Sent,
    counts: dict[str, int],
    reasons: Reasons,
    key: str,
    fingerprint: bytes,
) -> Reasons | None:
    """Why some do not count, if they were counted now; None if they were counted before.

    Those with a reason are counted in that class. Raises a `Problem` if nothing was counted.
    """
    is_sure = True
    told: Reasons | None = None
    try:
        told = node.counting.count_many(
            counts, key, fingerprint, lambda: client, reasons, once=sent.once
        )
    except (TooManyNewError, UnannouncedError) as error:
        raise refused_id(error) from None
    except NoRoomError as error:
        detail = f"no visit was counted: {error}"
        raise Problem(429, "Too many keys", detail, retry_after=error.retry_after) from None
    except FullError as error:
        raise full(error) from None
    except NotCountedError as error:
        raise _not_counted(error) from None
    except MaybeCountedError as error:
        is_sure = False
        raise Problem(
            504, "Maybe counted", f"all visits may be counted, or none: {error}"
        ) from None
    except KeyTakenError as error:
        raise Problem(422, "Key taken", f"no visit was counted: {error}") from None
    finally:
        if told is not None:
            sent.counted(told)
        elif is_sure:
            sent.refused()
    return told


def _not_counted(error: NotCountedError) -> Problem:
    return Problem(503, "Not counted", f"no visit was counted: {error}")


def _are_ids(counts: dict[str, int]) -> bool:
    """Whether all of these are ids of videos: a few passes in C instead of one match for each."""
    if not counts:
        return True
    letters = "".join(counts)
    return (
        letters.isascii()
        and not letters.encode().translate(None, _OF_IDS)
        and counts.keys().isdisjoint(("", *STEPS))
        and max(map(len, counts)) <= _LONGEST
    )


def _refuse(kind: str, body: bytes, limits: Limits, error: str) -> NoReturn:
    """Raise the `Problem` that names the first bad record and what is wrong with it.

    The search reads one record after the other. It is slow, so others have their turns.
    """
    index, turns = 0, Turns()
    counts: dict[str, int] = {}
    try:
        for record in _each(kind, body):
            _check(record)
            if record.count > limits.record:
                raise _too_large(index, record, limits)
            counts[record.video] = counts.get(record.video, 0) + record.count
            if counts[record.video] > MAX_COUNT:
                raise _beyond(index, record, counts[record.video])
            index += 1
            if index > MAX_RECORDS:
                break
            if index % _AT_ONCE == 0:
                turns.take()
    except UnicodeDecodeError as wrong:
        index, error = 0, f"the body is not UTF-8: {wrong}"
    except msgspec.MsgspecError as wrong:
        error = str(wrong).partition(" - at `$")[0] + f"; write it like {_EXAMPLE}"
    except (ValueError, RecursionError) as wrong:
        error = str(wrong)
    raise Problem(
        400,
        "Bad record",
        f"no visit was counted: record {index} (from 0): {error}",
        {"index": index},
    )


def _too_large(index: int, record: Record, limits: Limits) -> Problem:
    """The problem with one record that adds more than it may."""
    return Problem(
        422,
        "Beyond the limit",
        f"no visit was counted: record {index} (from 0): {str(record.count)[:40]} visits of "
        f"{record.video!r} are more than {limits.record}, the most that a record may "
        f"add{limits.remedy}",
        {"index": index, "video": record.video, "limit": limits.record},
    )


def _beyond(index: int, record: Record, visits: int) -> Problem:
    """The problem with more visits than a count can hold, in all records so far."""
    return Problem(
        422,
        "Beyond the limit",
        f"no visit was counted: record {index} (from 0): with it {record.video!r} gets "
        f"{visits} visits, and the limit is {MAX_COUNT}",
        {"index": index, "video": record.video, "limit": MAX_COUNT},
    )


def _check(record: Record) -> None:
    if not _are_ids({record.video: 1}):
        raise ValueError(
            f"{record.video[:200]!r} is not a video's id: use 1 to {_LONGEST} characters out of "
            "A-Z a-z 0-9 . _ ~ -, but neither . nor .. alone"
        )


def _each(kind: str, body: bytes) -> Iterator[Record]:
    """Each record of a body, up to the first that cannot be read."""
    texts = _lines if kind == "application/x-ndjson" else _elements
    yield from map(_record_of, texts(body.decode()))


def _lines(text: str) -> Iterator[str]:
    return (line.group() for line in _line.finditer(text))


def _elements(text: str) -> Iterator[str]:
    """Each record of an array as it is written; ValueError for the first that is no JSON."""
    with suppress(msgspec.DecodeError, RecursionError):
        yield from map(_written, msgspec.json.decode(text, type=list[msgspec.Raw]))
        return
    scan, at = json.JSONDecoder().raw_decode, _skip(text, 0)
    if text[at : at + 1] != "[":
        raise ValueError("the body is not an array of records")
    at = _skip(text, at + 1)
    while at < len(text):
        # No record is longer, and whatever is wrong with one that is: it is not read to its end.
        piece = text[at : at + _MAX_RECORD]
        _, end = scan(piece)
        yield piece[:end]
        at = _skip(text, at + end)
        if text[at : at + 1] == "]":
            if _skip(text, at + 1) < len(text):
                raise ValueError("something follows the array")
            return
        if text[at : at + 1] != ",":
            raise ValueError("expected ',' or ']' before it")
        at = _skip(text, at + 1)
    raise ValueError("the array does not end")


def _written(raw: msgspec.Raw) -> str:
    return bytes(raw).decode()


def _record_of(text: str) -> Record:
    """A record, however large its count; raises for everything else that is wrong with it."""
    try:
        return _record(text)
    except msgspec.ValidationError:
        value = _object_of(text) if len(text) <= _MAX_RECORD else {}
        count = value.get("count")
        if type(count) is not int or count <= MAX_COUNT:
            raise
    record = msgspec.convert({**value, "count": MAX_COUNT}, Record)
    record.count = count
    return record


def _object_of(text: str) -> dict[str, Any]:
    value = json.loads(text, parse_int=lambda digits: int(digits[:_MAX_DIGITS]))
    return value if isinstance(value, dict) else {}


def _skip(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at
