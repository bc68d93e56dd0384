"""The words between nodes: MessagePack, versioned, bounded in size, signed on demand.

A message is a version byte, the length of its signature (0 or 32), the signature
(HMAC-SHA256 over everything else) and one `Envelope` as MessagePack. Counts are absolute, so that
a message which is lost, repeated or late does no harm. Decoding checks every type and range: what
comes out of `decode` is safe to merge.
"""

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Literal, get_args

from msgspec import Meta as Limit
from msgspec import MsgspecError, Struct, convert, msgpack, structs

from counter.crdt.extract import Extract
from counter.crdt.gcounter import MAX_COUNT
from counter.crdt.hashes import BUCKETS
from counter.crdt.ids import CELL, DIGIT, KEY, LOG_FILE, NAME, RUN, STORE_LENGTH
from counter.protocol import extracts
from counter.protocol.entries import Refused, right_fields
from counter.protocol.extracts import DIGEST_BYTES, MAX_ROWS, NOT_READ
from counter.protocol.positions import KEPT, START, Position
from counter.protocol.records import MAX_RECORDS_TOLD, Record, RecordsPage, RecordsRequest
from counter.protocol.records import Digest as Ledger
from counter.protocol.seen_messages import Places, SeenFrom, SeenPage, SeenRequest
from counter.protocol.sketch_messages import (
    Day,
    Seen,
    SketchesByDay,
    SketchesPage,
    SketchesRequest,
)

VERSION = 3
CLASSES = 1
"""What a node says it `knows` from the version on that counts apart what does not count."""
MAX_BYTES = 128 * 1024
"""No message is longer."""
PAGE_BYTES = 48 * 1024
"""Of entries in one message: some 2,000 new videos, which take the receiver some 10 ms."""
SALTS = 2**31

# The most entries that a list of a message has: no node tells more of anything at once. A node that
# does is broken, and what is beyond is left out.
MAX_COUNTS = PAGE_BYTES // 13 + 1
"""Of a delta or a page: the shortest entry is taken for 13 bytes."""
MAX_MEMBERS_TOLD = 300
"""Of a report, as `reports.py` cuts it into parts."""
MAX_RUNS_TOLD = 1000
"""Of a member, in a report or a page; also a node that starts every second has fewer open runs."""
MAX_DAYS_TOLD = 4096
"""Of a member: eleven years."""
MAX_PEERS_TOLD = 100
"""Of a report: each of them may be somebody to send everything to."""
MAX_KEYS_TOLD = PAGE_BYTES // 36 + 1
"""Of a page: the shortest key is taken for 37 bytes."""
MAX_LOGS_TOLD = 100
"""Of a report."""

_MEMBER = rf"{NAME}~{DIGIT}{{{STORE_LENGTH}}}"

Cell = Annotated[str, Limit(pattern=rf"^{CELL}\Z")]
MemberId = Annotated[str, Limit(pattern=rf"^{_MEMBER}\Z")]
RunId = Annotated[str, Limit(pattern=rf"^{RUN}\Z")]
NoRun = Annotated[str, Limit(pattern=rf"^({RUN})?\Z")]
"""A run, or "" for none."""
ReplicaId = Annotated[str, Limit(pattern=rf"^{_MEMBER}\.{RUN}\Z")]
VectorId = Annotated[str, Limit(pattern=rf"^{_MEMBER}[.@]{RUN}\Z")]
Count = Annotated[int, Limit(ge=1, le=MAX_COUNT)]
Total = Annotated[int, Limit(ge=0, le=2**63 - 1)]
Digest = Annotated[int, Limit(ge=0, le=2**63 - 1)] | None
Copied = tuple[Total, Digest]
"""A copy of a vector: its total, and its content hash where its writer is silent."""
Date = Annotated[int, Limit(ge=0, le=2**53)]
"""When a run began, by the clock of its node: Unix time in ms; 0 if that is not known."""
DatedCopy = tuple[Total, Digest, Date]
DayDigest = tuple[Annotated[int, Limit(ge=0, le=2**32)], Total]
"""How many runs of a member and day are closed, and a digest of their names and contents."""
Serial = Annotated[int, Limit(ge=0, le=2**53)]
TakenKey = tuple[
    Serial,
    Annotated[str, Limit(pattern=rf"^{KEY}\Z")],
    Annotated[bytes, Limit(min_length=16, max_length=16)],
    Annotated[int, Limit(ge=0, le=2**53)],
]
"""A key with its serial, the fingerprint of its request, and its age in ms."""
Address = Annotated[str, Limit(pattern=r"^[!-~]{0,255}\Z")]
"""Where a node is reached: a URL, or the name of a queue."""
State = Literal["joining", "ready", "leaving"]
LogId = Annotated[str, Limit(pattern=rf"^{NAME}/{LOG_FILE}\Z")]
FileId = Annotated[str, Limit(pattern=rf"^([0-9a-f]{{16}}|{START})\Z")]
Read = Annotated[dict[FileId, Position], Limit(max_length=KEPT)]
"""How far a visit log was read."""
Counts = Annotated[dict[Cell, Count], Limit(max_length=MAX_COUNTS)]
Logs = Annotated[dict[LogId, Read], Limit(max_length=MAX_LOGS_TOLD)]
Runs = Annotated[dict[RunId, DatedCopy], Limit(max_length=MAX_RUNS_TOLD)]
Days = Annotated[dict[Day, DayDigest], Limit(max_length=MAX_DAYS_TOLD)]
Acquaintances = Annotated[dict[ReplicaId, Address], Limit(max_length=MAX_PEERS_TOLD)]


class Delta(Struct, array_like=True, tag="delta"):
    """The sender's counts that changed, and the total of its vector with them applied.

    The visits up to where it has `read` its visit log are in that total. `records` are those of
    operators that the sender has stored, and `seen` has the viewers of some visits that it counted,
    which follow `seen_from`; nodes of a version before look at none of these.
    """

    counts: Counts
    total: Total
    read: Logs = {}
    records: Annotated[list[Record], Limit(max_length=MAX_RECORDS_TOLD)] = []
    seen: Seen = b""
    seen_from: SeenFrom | None = None


class PreviousMemberReport(Struct, array_like=True):
    """A member as the sender knows it: two runs (see `members.py`), fold mark, and copies held.

    Of `runs` there may be a part: those that the sender has not said before.
    """

    latest: NoRun
    removed: NoRun
    mark: NoRun
    folded: Copied
    runs: Annotated[dict[RunId, Copied], Limit(max_length=MAX_RUNS_TOLD)]


class MemberReport(Struct, array_like=True):
    """All that the sender has to say of a member: it takes the place of what it said before.

    As `PreviousMemberReport`, but only the runs that are open have a name here; closed runs are
    told by a digest a day (see `ids.day_of`).
    """

    latest: NoRun
    removed: NoRun
    mark: NoRun
    folded: Copied
    runs: Runs
    days: Days


Part = tuple[Annotated[str, Limit(pattern=r"^[a-z]{1,16}\Z")], bool]
"""What a part of a node is, and whether it works."""


class Health(Struct, array_like=True):
    """How the sender's store and transport are, for people who look at the cluster."""

    store: Part
    transport: Part


class Report(Struct, array_like=True, tag="report"):
    """What the sender holds: what it has not told yet of each member that it remembers.

    `checksum` is that of all that it has said (see `previous.PreviousAnnounced`), so that a
    receiver that missed a report knows it; None if another part follows. `peers` names some of the
    nodes that the sender hears, with their addresses. `keys`, in the first part only, is up to
    which serial it holds the keys of each replica. `logs` says how far visit logs were read; the
    visits up to there are included in what the sender says it holds. `health` is sent when it has
    changed, and now and then.

    `states` says what has changed of members, and `said` is the checksum of all that was said so;
    `number` counts the reports of the sender, so that one that comes late is known for that.
    Nodes of the version before read `members` and `checksum` instead, which are left empty where
    all that are heard tell `said`. `knows` grows with what a version tells beside counts of videos:
    it is 0 before `CLASSES`. `ledger`, in the last part, is the digest of all records that the
    sender holds; None if there are none. For `sketches`, of new viewers, and digests of days of
    them see `sketch_repairs.py`; for `seen`, of recent viewers, see `seen_repairs.py`.
    """

    state: State
    members: Annotated[dict[MemberId, PreviousMemberReport], Limit(max_length=MAX_MEMBERS_TOLD)]
    peers: Acquaintances
    checksum: Total | None
    keys: Annotated[dict[ReplicaId, Serial], Limit(max_length=MAX_RUNS_TOLD)] | None = None
    logs: Logs = {}
    health: Health | None = None
    states: Annotated[dict[MemberId, MemberReport], Limit(max_length=MAX_MEMBERS_TOLD)] = {}
    said: Total | None = None
    number: Serial = 0
    knows: Annotated[int, Limit(ge=0, le=2**31)] = 0
    ledger: Ledger | None = None
    days_of_sketches: Days = {}
    sketches: SketchesByDay = {}
    seen: Places = {}


class ReportRequest(Struct, array_like=True, tag="tell"):
    """A request for all that the receiver has said."""


class RepairRequest(Struct, array_like=True, tag="ask"):
    """A request for what the sender misses of a vector: the hashes of its copy's buckets.

    Two bytes a bucket, of a power of two of them, as `Vector.hashes` makes them with `salt`;
    none for an empty copy. `after` is 0, or the `next` of the answer that this one goes on from.
    `most` is how many counts the sender takes in one `ExtractPage`, 0 if it reads none.

    `known` is how many of the receiver's rows the sender knows, and `digest` that of their ids; see
    `numbering.py`. `lacks` is how many vectors the sender hardly has anything of and wants from the
    receiver; 0 if it is to tell it no more rows.
    """

    vector: VectorId
    hashes: Annotated[bytes, Limit(max_length=2 * BUCKETS)]
    salt: Annotated[int, Limit(ge=1, le=SALTS)]
    after: Annotated[int, Limit(ge=0, le=2**53)]
    most: Annotated[int, Limit(ge=0, le=2**31)] = 0
    lacks: Annotated[int, Limit(ge=0, le=2**31)] = 0
    known: Annotated[int, Limit(ge=0, le=2**31)] = 0
    digest: Annotated[bytes, Limit(max_length=DIGEST_BYTES)] = b""


class RepairPage(Struct, array_like=True, tag="answer"):
    """One page of the counts in the buckets that differ; `next` is where the next page starts.

    `total` is that of the vector, where the sender is the one that writes it. With an `Extract` as
    its counts it goes out as an `ExtractPage`.
    """

    vector: VectorId
    counts: Annotated[Mapping[Cell, Count], Limit(max_length=MAX_COUNTS)]
    next: Annotated[int, Limit(ge=0, le=2**53)] | None
    total: Total | None = None


class ExtractPage(Struct, array_like=True, tag="extract"):
    """The same with its counts as an extract, for who asks for that: its text and its counts.

    `decode` makes a `RepairPage` of it, so nobody else meets one.
    """

    vector: VectorId
    text: bytes
    counts: bytes
    next: Annotated[int, Limit(ge=0, le=2**53)] | None
    total: Total | None = None


class RowsPage(Struct, array_like=True, tag="rows"):
    """The same with its counts by the sender's rows, for who knows these.

    `text` has the ids of the rows from `known` on, each with a NUL at its end, and `after` is the
    digest of all ids up to the last of them. `digest` is that of the ids before them, as it was
    asked with. `of` is how many rows the sender has. The counts are by ascending rows, of which
    `gaps` are the gaps, from the row `first` on; all are below `known` and what `text` adds to it.
    """

    vector: VectorId
    known: Annotated[int, Limit(ge=0, le=2**31)]
    digest: Annotated[bytes, Limit(max_length=DIGEST_BYTES)]
    text: bytes
    after: Annotated[bytes, Limit(max_length=DIGEST_BYTES)]
    of: Annotated[int, Limit(ge=0, le=2**31)]
    first: Annotated[int, Limit(ge=0, le=2**53)]
    size: Annotated[int, Limit(ge=0, le=MAX_ROWS)]
    gaps: bytes
    counts: bytes
    next: Annotated[int, Limit(ge=0, le=2**53)] | None
    total: Total | None = None


class KeysRequest(Struct, array_like=True, tag="ask keys"):
    """A request for the keys that a replica has taken after a serial."""

    replica: ReplicaId
    after: Serial


class KeysPage(Struct, array_like=True, tag="keys"):
    """Keys that a replica has taken: all that the sender holds after one serial, up to another."""

    replica: ReplicaId
    after: Serial
    keys: Annotated[list[TakenKey], Limit(max_length=MAX_KEYS_TOLD)]
    last: Serial


class RunsRequest(Struct, array_like=True, tag="ask runs"):
    """A request for the names of a member's closed runs of a day, after one of them."""

    member: MemberId
    day: Day
    after: NoRun


class RunsPage(Struct, array_like=True, tag="runs"):
    """Closed runs of a member and day: all that the sender has after one run, up to another.

    `digest` is that of the whole day, `next` the last run of the page, "" if none follows.
    """

    member: MemberId
    day: Day
    digest: DayDigest
    after: NoRun
    runs: Runs
    next: NoRun


class Larger(Struct, array_like=True, tag="larger"):
    """The sender holds counts of the receiver's run that the receiver does not seem to know.

    It was put back to an earlier state with its memory, if that is so. `total` is how much the
    sender holds; `refused` whether it was told a count that goes beyond the total it was told.
    """

    replica: ReplicaId
    total: Total
    refused: bool


Question = RepairRequest | KeysRequest | RunsRequest | RecordsRequest
Page = RepairPage | ExtractPage | RowsPage | KeysPage | RunsPage | RecordsPage
OfViewers = SketchesRequest | SketchesPage | SeenRequest | SeenPage
Body = Delta | Report | ReportRequest | Question | Page | Larger | OfViewers


class Envelope(Struct, array_like=True):
    """A message with the replica that sent it, where to answer it, and when it was sent.

    `address` is empty while the sender does not know its own. `sent` is Unix time in ms.
    """

    sender: ReplicaId
    address: Address
    sent: Annotated[int, Limit(ge=0, le=2**53)]
    body: Body


class RejectedError(Exception):
    """A message that must be dropped; `reason` is one word for the metrics.

    `envelope` is the message where only its time is wrong.
    """

    def __init__(self, reason: str, detail: str, envelope: Envelope | None = None) -> None:
        super().__init__(detail)
        self.reason = reason
        self.envelope = envelope


_HASHES = {0, *(2 << power for power in range(BUCKETS.bit_length()))}
_UNTOLD: dict[type[Struct], tuple[object, ...]] = {
    Delta: ([], b"", None), Report: (None, {}, None, 0, 0, None, {}, {}, {}),
    RepairRequest: (0, 0, 0, b""), RepairPage: (None,), ExtractPage: (None,), RowsPage: (None,),
}  # fmt: skip
"""The last fields of a message that take no byte while they are these."""
_encoder = msgpack.Encoder()
_decoder = msgpack.Decoder(Envelope)
_CONTENT: dict[type[Struct], int] = {
    Delta: 0, RepairPage: 1, Report: 1, KeysPage: 2, RecordsPage: 2,
}  # fmt: skip
"""Which field of a message it is about: without a right entry in it, if it has any, it is junk."""
_TAGS = {kind.__struct_config__.tag: kind for kind in get_args(Body)}


def encode(envelope: Envelope, secret: str | None) -> bytes:
    """Encode a message, signed if there is a secret."""
    body = _encoder.encode(_told(envelope))
    if secret is None:
        return bytes((VERSION, 0)) + body
    head = bytes((VERSION, 32))
    return head + hmac.digest(secret.encode(), head + body, sha256) + body


def _told(envelope: Envelope) -> object:
    """A message as it is encoded: not a byte for what is not told at its end."""
    body = envelope.body
    if type(body) is RepairPage and type(body.counts) is Extract:
        text, counts = body.counts.text, body.counts.packed()
        body = ExtractPage(body.vector, text, counts, body.next, body.total)
    kind = type(body)
    untold = _UNTOLD.get(kind)
    if untold is None:
        return envelope
    fields = structs.astuple(body)
    told = len(fields)
    while told > len(fields) - len(untold) and fields[told - 1] == untold[told - 1 - len(fields)]:
        told -= 1
    content = kind.__struct_config__.tag, *fields[:told]
    return envelope.sender, envelope.address, envelope.sent, content


def decode(
    message: bytes, secret: str | None, now: int, ttl: int, refused: Refused = lambda _: None
) -> Envelope:
    """Verify and decode a message.

    `now` and `ttl` are in ms. What is wrong with one entry of it is told to `refused`, and that
    entry left out, as is what a list has beyond its longest; a message that is left with none of
    its counts is junk. Raises `RejectedError`: "size", "version", "signature", "junk", or "clock"
    for one sent more than `ttl` before or after `now`.
    """
    if len(message) > MAX_BYTES:
        raise RejectedError("size", f"{len(message)} bytes are more than {MAX_BYTES}")
    if len(message) < 2 or message[0] != VERSION:
        raise RejectedError("version", f"not a message of version {VERSION}")
    head, signature, body = message[:2], message[2 : 2 + message[1]], message[2 + message[1] :]
    if secret is None:
        if signature:
            raise RejectedError("signature", "signed, and CLUSTER_SECRET is not set here")
    elif not hmac.compare_digest(signature, hmac.digest(secret.encode(), head + body, sha256)):
        raise RejectedError("signature", "not signed with the CLUSTER_SECRET of this node")
    try:
        envelope = _decoder.decode(body)
    except (MsgspecError, ValueError, RecursionError) as error:  # ValueError: no UTF-8
        envelope = _without_bad_entries(body, str(error), refused)
    if abs(now - envelope.sent) > ttl:
        raise RejectedError(
            "clock", f"sent {(now - envelope.sent) / 1000:.1f} s ago by this node's clock", envelope
        )
    told = envelope.body
    if isinstance(told, RepairRequest) and len(told.hashes) not in _HASHES:
        raise RejectedError("junk", f"an ask with {len(told.hashes)} bytes of hashes")
    if isinstance(told, ExtractPage):
        try:
            counts = extracts.read(told.text, told.counts, refused)
        except ValueError as error:
            raise RejectedError("junk", str(error)) from None
        envelope.body = RepairPage(told.vector, counts, told.next, told.total)
    if isinstance(told, RowsPage):
        size, number = told.size, told.known + told.text.count(b"\0")
        wrong = extracts.wrong_ids(told.text) or extracts.wrong_rows(
            size, told.gaps, told.counts, number - told.first
        )
        if wrong:
            # What it holds is asked for by ids then.
            refused(wrong)
            envelope.body = RowsPage(told.vector, 0, NOT_READ, b"", b"", 0, 0, 0, b"", b"", None)
    return envelope


def _without_bad_entries(body: bytes, error: str, refused: Refused) -> Envelope:
    """Decode what is not all right: leave out entries of its maps and lists that are wrong."""
    try:
        sender, address, sent, (tag, *fields) = msgpack.decode(body)
        if isinstance(tag, str) and tag not in _TAGS:
            error = f"{tag[:20]!r} is no kind of message that this version knows"
        kind = _TAGS[tag]
        right = [tag, *right_fields(kind, fields, refused)]
        content = _CONTENT.get(kind)
        if content is not None and fields[content] and not right[1 + content]:
            raise RejectedError("junk", error)  # nothing of it is right
        return convert([sender, address, sent, right], Envelope)
    except (MsgspecError, ValueError, TypeError, LookupError, RecursionError):
        raise RejectedError("junk", error) from None
