"""Records: what an operator has done to a video's number, as it is kept and told.

Pure: no I/O, no clock.
"""

import json
from hashlib import blake2b
from typing import Annotated, Literal

import msgspec
from msgspec import Meta as Limit
from msgspec import MsgspecError, Struct

from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.ids import DIGIT, NAME, STORE_LENGTH, VIDEO
from counter.crdt.ledger import joined

RECORD = "record:"
"""How the name of a note begins that keeps a record; its id follows."""
LONGEST_REASON = 500
MAX_TAKES = 1_500
"""Members that a record takes visits from: so it fits into a message."""
BUCKETS = 4096
"""The most buckets of ids that sets are compared by."""
MAX_RECORDS_TOLD = 1_000
"""Of a delta or a page."""
_HASH_BYTES = 8

Act = Literal["withdraw", "block", "unblock"]
RecordId = Annotated[str, Limit(pattern=r"^[0-9a-f]{32}\Z")]
NoRecord = Annotated[str, Limit(pattern=r"^([0-9a-f]{32})?\Z")]
"""A record's id, or "" for none."""
Digest = tuple[Annotated[int, Limit(ge=0, le=2**53)], Annotated[int, Limit(ge=0, le=2**63 - 1)]]
"""How many records there are, and the sum of their hashes."""
_Member = Annotated[str, Limit(pattern=rf"^{NAME}~{DIGIT}{{{STORE_LENGTH}}}\Z")]
_Number = Annotated[int, Limit(ge=1, le=MAX_COUNT)]
Takes = Annotated[dict[_Member, tuple[_Number, _Number]], Limit(max_length=MAX_TAKES)]


class Record(Struct, array_like=True, frozen=True):
    """What an operator did: `by` is the label of the token, `at` Unix time in ms.

    `takes` says of each member how many visits are withdrawn, and how many were seen.
    """

    id: RecordId
    at: Annotated[int, Limit(ge=0, le=2**53)]
    by: Annotated[str, Limit(pattern=r"^[A-Za-z0-9._-]{1,32}\Z")]
    video: Annotated[str, Limit(pattern=rf"^{VIDEO}\Z")]
    act: Act
    reason: Annotated[str, Limit(max_length=LONGEST_REASON, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
    takes: Takes = {}

    @property
    def number(self) -> int:
        """How many visits it takes."""
        return sum(take for take, _ in self.takes.values())


class RecordsRequest(Struct, array_like=True, tag="ask records"):
    """A request for records that the sender lacks: the hashes of its buckets of ids.

    Eight bytes a bucket, of a power of two of them. `after` is "", or the `next` of the page that
    this one goes on from.
    """

    hashes: Annotated[bytes, Limit(min_length=_HASH_BYTES, max_length=_HASH_BYTES * BUCKETS)]
    after: NoRecord


class RecordsPage(Struct, array_like=True, tag="records"):
    """Records in the buckets that differ, in the order of ids, after one of them.

    `digest` is that of all that the sender has, `next` the last id of the page, "" at the end.
    """

    digest: Digest
    after: NoRecord
    records: Annotated[list[Record], Limit(max_length=MAX_RECORDS_TOLD)]
    next: NoRecord


def id_of_key(scope: str, key: str, body: bytes) -> str:
    """The id of the record of a request with an Idempotency-Key.

    The first half is of scope and key, so that another request with the same key shows.
    """
    name = blake2b(f"{scope}\n{key}".encode(), digest_size=8).hexdigest()
    return name + blake2b(body, digest_size=8).hexdigest()


def same_key(one: str, other: str) -> bool:
    """Whether two ids are of requests with one key."""
    return one[:16] == other[:16]


def join(one: Record, other: Record) -> Record:
    """One record out of two contents under one id: the larger entries, the smaller (at, by)."""
    first = min(one, other, key=lambda record: (record.at, record.by, record.reason))
    return msgspec.structs.replace(first, takes=joined(one.takes, other.takes))


def encode(record: Record) -> str:
    """The text that a store keeps of a record, in printable ASCII."""
    text = _encode(record)
    if text.isascii():
        return text.decode()
    return json.dumps(json.loads(text), separators=(",", ":"))


def decode(name: str, text: str) -> Record | None:
    """A record out of a note; None for what is none."""
    try:
        record = _decode(text)
    except (MsgspecError, ValueError):
        return None
    return record if RECORD + record.id == name else None


_decode = msgspec.json.Decoder(Record).decode
_encode = msgspec.json.Encoder(order="deterministic").encode


def hash_of(text: str) -> int:
    """The hash of a record's text, in 63 bits."""
    return int.from_bytes(blake2b(text.encode(), digest_size=_HASH_BYTES).digest()) >> 1
