"""The words between nodes: the wire is pinned by golden vectors; what is wrong is left out."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.crdt.extract import Extract
from counter.crdt.hashes import BUCKETS
from counter.protocol.messages import (
    CLASSES,
    MAX_BYTES,
    Body,
    Delta,
    Envelope,
    Health,
    KeysPage,
    KeysRequest,
    Larger,
    MemberReport,
    PreviousMemberReport,
    RejectedError,
    RepairPage,
    RepairRequest,
    Report,
    ReportRequest,
    RowsPage,
    RunsPage,
    RunsRequest,
    decode,
    encode,
)
from counter.protocol.positions import Position
from counter.protocol.records import Record, RecordsPage, RecordsRequest
from counter.protocol.seen_messages import SeenPage, SeenRequest
from counter.protocol.sketch_messages import SketchesPage, SketchesRequest

SENDER = "counter1~7q2m9f2ck3x8a.01m83kr2yy3a0d1xw7bp3ns"
OTHER = "counter2~07b1a0zz5k2vd.01m83kr3000000000000001"
RUN, EARLIER = SENDER[-23:], "01m83kr0000000000000001"
MEMBER = OTHER[:-24]
FOLDED = f"{MEMBER}@{EARLIER}"
LATEST_RUN, TOO_LATE = "06k7ms39zz" + "z" * 13, "06k7ms3a00" + "0" * 13
DAY = 20_780
SENT = 1_795_417_705_423
SECRET = "a secret of this cluster"

READ = {"start": Position(0), "0123456789abcdef": Position(SENT, 1, 2**53, SENT)}

WITHDRAWN = Record(
    "0123456789abcdef" * 2, SENT, "ops", "cats", "withdraw", "click färm", {MEMBER: (3, 2**53 - 1)}
)
BLOCK = Record("f" * 32, 0, "a.b-c_d", "v" * 128, "block", "")

BODIES: dict[str, Body] = {
    "delta": Delta({"cats": 7, "dogs": 2**53 - 1}, 2**53 + 6),
    "delta with a log": Delta({"cats": 8}, 8, {"counter1/counter1.log": READ}),
    "delta with viewers": Delta({}, 8, seen=bytes(range(20))),
    "delta with records": Delta({"cats": 8}, 8, records=[WITHDRAWN, BLOCK]),
    "report": Report(
        "ready",
        {
            SENDER[:-24]: PreviousMemberReport(RUN, "", "", (0, 0), {RUN: (8, None)}),
            OTHER[:-24]: PreviousMemberReport(
                RUN, EARLIER, EARLIER, (2**53 + 5, 17), {RUN: (2**63 - 1, 2**63 - 1)}
            ),
        },
        {OTHER: "http://b:1"},
        2**63 - 1,
        {OTHER: 3},
    ),
    "part of a report": Report("leaving", {}, {}, None),
    "report of logs": Report("ready", {}, {}, 17, {}, {"counter1/counter1.log": READ}),
    "report of a condition": Report(
        "ready", {}, {}, 17, {}, {}, Health(("sqlite", True), ("rabbitmq", False))
    ),
    "report of states": Report(
        "ready",
        {},
        {OTHER: "http://b:1"},
        None,
        {OTHER: 3},
        states={
            SENDER[:-24]: MemberReport(RUN, "", "", (0, 0), {RUN: (8, None, SENT)}, {}),
            MEMBER: MemberReport(
                RUN,
                EARLIER,
                EARLIER,
                (2**53 + 5, 17),
                {RUN: (2**63 - 1, 2**63 - 1, 0)},
                {DAY: (2**32, 2**63 - 1), 0: (1, 0)},
            ),
        },
        said=2**63 - 1,
    ),
    "part of a report of states": Report(
        "leaving", {}, {}, None, states={MEMBER: MemberReport("", "", "", (0, None), {}, {})}
    ),
    "report for both versions": Report("joining", {}, {}, 17, said=0),
    "numbered report": Report("ready", {}, {}, None, said=17, number=2**53),
    "knowing report": Report("ready", {}, {}, None, said=17, number=1, knows=CLASSES),
    "report of sketches": Report(
        "ready",
        {},
        {},
        None,
        said=17,
        days_of_sketches={20_000: (2, 2**63 - 1)},
        sketches={20_000: {"cats": bytes(range(32))}, 0: {"dogs": b"1"}},
    ),
    "report of a ledger": Report("ready", {}, {}, None, said=17, ledger=(2**53, 2**63 - 1)),
    "tell": ReportRequest(),
    "ask for all": RepairRequest(OTHER, b"", 1, 0),
    "ask for what is folded": RepairRequest(FOLDED, b"", 1, 0),
    "ask for what differs": RepairRequest(OTHER, bytes(range(64)), 2**31, 20_000),
    "ask for an extract": RepairRequest(OTHER, b"", 1, 0, 5_000),
    "ask by rows": RepairRequest(OTHER, b"", 1, 0, 5_000, 3, 70_000, bytes(range(16))),
    "answer": RepairPage(OTHER, {"cats": 1}, 77),
    "last answer": RepairPage(OTHER, {}, None),
    "answer of the writer": RepairPage(SENDER, {"cats": 1, "cats/bot": 2}, None, 2**63 - 1),
    "extract": RepairPage(OTHER, Extract.of(["cats", "cats/bot"], [1, 70_000]), 77),
    "last extract": RepairPage(OTHER, Extract.of([], []), None),
    "extract of the writer": RepairPage(SENDER, Extract.of(["cats"], [2**53 - 1]), None, 2**63 - 1),
    "rows": RowsPage(
        OTHER, 0, b"", b"cats\0cats/bot\0", bytes(range(16)), 3, 0, 2, b"\0\1", b"\1\2", 2
    ),
    "rows of the writer": RowsPage(
        SENDER,
        70_000,
        bytes(range(16)),
        b"",
        bytes(range(16)),
        70_000,
        60_000,
        1,
        (9_999).to_bytes(2, "little"),
        (2**53 - 1).to_bytes(8, "little"),
        None,
        2**63 - 1,
    ),
    "ask for keys": KeysRequest(OTHER, 2),
    "keys": KeysPage(OTHER, 2, [(3, "!7~", bytes(range(16)), 599_999)], 2**53),
    "ask for runs": RunsRequest(MEMBER, DAY, ""),
    "ask for more runs": RunsRequest(MEMBER, DAY, EARLIER),
    "runs": RunsPage(MEMBER, DAY, (2, 17), "", {EARLIER: (5, 2**60, SENT)}, EARLIER),
    "last runs": RunsPage(MEMBER, DAY, (2, 17), EARLIER, {RUN: (5, None, 0)}, ""),
    "ask for names of sketches": SketchesRequest(20_000, bytes(range(16)), "cats", []),
    "ask for sketches": SketchesRequest(20_000, b"", "", ["cats", "dogs"]),
    "names of sketches": SketchesPage(20_000, {"cats": 2**63 - 1, "dogs": 0}, "dogs", {}),
    "sketches": SketchesPage(20_000, {}, "", {"cats": bytes(2252)}),
    "ask for recent viewers": SeenRequest(2**52, 7),
    "recent viewers": SeenPage(2**52, 7, 8, bytes(range(12))),
    "delta of recent viewers": Delta({}, 9, {}, [], bytes(range(20)), (2**52, 7)),
    "report of recent viewers": Report("ready", {}, {}, None, seen={2**52: 8}),
    "ask for records": RecordsRequest(bytes(range(16)), ""),
    "ask for more records": RecordsRequest(bytes(8), WITHDRAWN.id),
    "records": RecordsPage((3, 17), "", [WITHDRAWN, BLOCK], BLOCK.id),
    "last records": RecordsPage((3, 17), BLOCK.id, [], ""),
    "larger": Larger(OTHER, 2**63 - 1, False),
    "larger, as a count was refused": Larger(OTHER, 0, True),
}
BLOCKED = ("0" * 32, 5, "ops", "cats")
STANDING = [RUN, "", "", [0, 0], {}]
GOLDEN = json.loads((Path(__file__).parent / "vectors" / "messages.json").read_text())


def message(body: Body, sent: int = SENT) -> Envelope:
    return Envelope(SENDER, "http://127.0.0.1:1231", sent, body)


def reason(data: bytes, secret: str | None = None, now: int = SENT) -> str:
    with pytest.raises(RejectedError) as rejected:
        decode(data, secret, now, 30_000)
    assert str(rejected.value)
    return rejected.value.reason


def sent(body: Any) -> bytes:
    """A message with this body, whatever it is."""
    return b"\x03\x00" + msgspec.msgpack.encode([SENDER, "", SENT, body])


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("secret", [None, SECRET])
def test_the_wire_is_what_it_was(name: str, secret: str | None) -> None:
    golden = bytes.fromhex(GOLDEN[f"{name}, {'signed' if secret else 'plain'}"])
    assert encode(message(BODIES[name]), secret) == golden
    assert decode(golden, secret, SENT, 30_000) == message(BODIES[name])


def test_what_is_not_told_takes_no_byte() -> None:
    # [sender, address, sent, ["report", state, members, peers, checksum, keys, logs]]
    silent = msgspec.msgpack.decode(encode(message(BODIES["report of logs"]), None)[2:])
    assert len(silent[3]) == 7
    told = msgspec.msgpack.decode(encode(message(BODIES["report of a condition"]), None)[2:])
    assert told[3][7:] == [[["sqlite", True], ["rabbitmq", False]]]
    # ["answer", vector, counts, next, total]
    for name, fields in (("last answer", 4), ("answer of the writer", 5)):
        assert len(msgspec.msgpack.decode(encode(message(BODIES[name]), None)[2:])[3]) == fields


def test_more_than_this_release_knows_is_no_harm() -> None:
    for name in (
        "report of recent viewers",
        "ask by rows",
        "rows of the writer",
        "delta of recent viewers",
        "answer of the writer",
        "extract of the writer",
        "larger",
    ):
        known = encode(message(BODIES[name]), None)
        more = msgspec.msgpack.decode(known[2:], strict=False)
        more[3] += [17, {"a": "later release"}]
        refused: list[str] = []
        later = known[:2] + msgspec.msgpack.encode(more)
        assert decode(later, None, SENT, 30_000, refused.append) == message(BODIES[name])
        assert refused == []


def test_a_kind_of_message_that_a_later_release_has_is_named_when_it_is_dropped() -> None:
    with pytest.raises(RejectedError, match="'gamma' is no kind of message"):
        decode(sent(["gamma", {}, 1]), None, SENT, 30_000)


def test_a_message_is_alive_for_its_time_before_and_after_by_this_nodes_clock() -> None:
    data = encode(message(BODIES["delta"]), None)
    for now in (SENT - 30_000, SENT, SENT + 30_000):
        assert decode(data, None, now, 30_000).sent == SENT
    assert reason(data, now=SENT + 30_001) == "clock"
    assert reason(data, now=SENT - 30_001) == "clock"


def test_what_is_not_signed_with_the_secret_is_dropped() -> None:
    data = encode(message(BODIES["delta"]), SECRET)
    assert reason(data, "another secret") == "signature"
    assert reason(data, None) == "signature"
    assert reason(encode(message(BODIES["delta"]), None), SECRET) == "signature"
    for position in range(len(data)):
        forged = bytearray(data)
        forged[position] ^= 1
        assert reason(bytes(forged), SECRET) in ("signature", "version")


def test_other_versions_and_sizes_are_dropped() -> None:
    assert reason(b"") == "version"
    assert reason(b"\x01\x00") == "version"
    assert reason(b"\x03\x00" + b"x" * MAX_BYTES) == "size"


@pytest.mark.parametrize(
    "body",
    [
        ["delta", {"cats": 1}, -1],
        ["delta", {"cats": 1}, 2**63],
        ["delta", {"cats": 1}],
        ["delta", None, 1],
        ["delta", ["cats"], 1],
        ["gamma", {}, 1],
        ["ask", OTHER, b"0" * 31, 1, 0],
        ["ask", OTHER, b"0" * 6, 1, 0],
        ["ask", OTHER, b"0" * 2 * (BUCKETS + 1), 1, 0],
        ["ask", OTHER, "0000", 1, 0],
        ["ask", OTHER, b"", 0, 0],
        ["ask", OTHER, b"", 2**31 + 1, 0],
        ["ask", OTHER, b"", 1, -1],
        ["ask", "counter2", b"", 1, 0],
        ["ask", OTHER + "\n", b"", 1, 0],
        ["ask", OTHER.upper(), b"", 1, 0],
        ["ask", OTHER.replace(".", "*"), b"", 1, 0],
        ["ask", f"{MEMBER}.{TOO_LATE}", b"", 1, 0],
        ["ask", OTHER, b"", 1, 0, -1],
        ["ask", OTHER, b"", 1, 0, 2**31 + 1],
        ["ask", OTHER, b"", 1, 0, None],
        ["answer", OTHER, {"cats": 1}, "77"],
        ["answer", OTHER, {"cats": 1}, None, -1],
        ["answer", f"{MEMBER}.{TOO_LATE}", {"cats": 1}, None],
        ["report", "asleep", {}, {}, 0],
        ["report", "ready", {}, {}, -1],
        ["report", "ready", {}, {}],
        ["report", "ready", {}, {}, 0, {}, {}, [["sqlite", True]]],
        ["report", "ready", {}, {}, 0, {}, {}, [["sqlite", 1], ["mesh", True]]],
        ["report", "ready", {}, {}, 0, {}, {}, [["<b>", True], ["mesh", True]]],
        ["report", "ready", {}, {}, 0, {}, {}, [["s" * 17, True], ["mesh", True]]],
        ["report", "ready", {}, {}, 0, {}, {}, None, []],
        ["report", "ready", {}, {}, 0, {}, {}, None, {}, -1],
        ["report", "ready", {}, {}, 0, {}, {}, None, {}, 17, -1],
        ["ask keys", OTHER, -1],
        ["ask keys", FOLDED, 0],
        ["keys", OTHER, 0, [], 2**53 + 1],
        ["keys", OTHER, 0, {}, 1],
        ["ask runs", OTHER, DAY, ""],
        ["ask runs", MEMBER, -1, ""],
        ["ask runs", MEMBER, 2**20 + 1, ""],
        ["ask runs", MEMBER, DAY, TOO_LATE],
        ["runs", MEMBER, DAY, [1], "", {}, ""],
        ["runs", MEMBER, DAY, [1, 2], "", {}, "x"],
        ["larger", OTHER, 1, 1],
        ["larger", FOLDED, 1, True],
        ["larger", f"{MEMBER}.{TOO_LATE}", 1, True],
        {"delta": 1},
        17,
        None,
    ],
)
def test_a_body_out_of_its_types_and_ranges_is_dropped(body: Any) -> None:
    assert reason(sent(body)) == "junk"


def test_a_sender_beyond_the_last_run_is_dropped() -> None:
    data = msgspec.msgpack.encode([f"{MEMBER}.{TOO_LATE}", "", SENT, ["tell"]])
    assert reason(b"\x03\x00" + data) == "junk"


WRONG_CELLS: list[tuple[Any, Any]] = [
    ("dogs", 0),
    ("dogs", -1),
    ("dogs", 2**53),
    ("dogs", 1.5),
    ("dogs", "1"),
    ("dogs", True),
    ("dogs", None),
    ("", 1),
    ("d" * 161, 1),
    ("dogs\n", 1),
    ("do gs", 1),
    ("dögs", 1),
    (b"dogs", 1),
    (17, 1),
]


@pytest.mark.parametrize(("key", "count"), WRONG_CELLS)
@pytest.mark.parametrize("kind", ["delta", "answer"])
def test_a_count_that_is_wrong_is_left_out_alone(kind: str, key: Any, count: Any) -> None:
    counts = {"cats": 1, key: count, "d" * 160: 2, "cats/bot": 2**53 - 1}
    right = {"cats": 1, "d" * 160: 2, "cats/bot": 2**53 - 1}
    body = ["delta", counts, 9] if kind == "delta" else ["answer", OTHER, counts, 77]
    refused: list[str] = []
    envelope = decode(sent(body), None, SENT, 30_000, refused.append)
    assert envelope.body == (Delta(right, 9) if kind == "delta" else RepairPage(OTHER, right, 77))
    assert len(refused) == 1
    assert str(key) in refused[0] or str(count) in refused[0]


RIGHT_STANDING = PreviousMemberReport(RUN, "", "", (0, 0), {})
RIGHT_STATE = MemberReport(RUN, "", "", (0, 0), {RUN: (7, None, SENT)}, {DAY: (1, 17)})
STATE = [RUN, "", "", [0, 0], {RUN: [7, None, SENT]}, {DAY: [1, 17]}]
STATE_AND_MORE: list[Any] = [
    *STATE[:4],
    {RUN: [7, None, SENT], TOO_LATE: [1, 1, 0]},
    {DAY: [1, 17], -1: [1, 1]},
]
STANDING_AND_MORE: list[Any] = [RUN, "", "", [0, 0], {"": [0, 0], RUN: [7, None]}]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("nobody", STANDING),
        (OTHER, STANDING),
        ("c2~07b1a0zz5k2vd", ["", "", "", [0, 0]]),
        ("c2~07b1a0zz5k2vd", ["never", "", "", [0, 0], {}]),
        ("c2~07b1a0zz5k2vd", ["", RUN + RUN, "", [0, 0], {}]),
        ("c2~07b1a0zz5k2vd", ["", "", TOO_LATE, [0, 0], {}]),
        ("c2~07b1a0zz5k2vd", ["", "", "", [-1, 0], {}]),
        ("c2~07b1a0zz5k2vd", ["", "", "", [0, "x"], {}]),
        ("c2~07b1a0zz5k2vd", ["", "", "", [0, 0, 0], {}]),
        ("c2~07b1a0zz5k2vd", 17),
    ],
)
@pytest.mark.parametrize("version", ["before", "this"])
def test_a_member_that_is_wrong_is_left_out_alone(name: str, wrong: Any, version: str) -> None:
    refused: list[str] = []
    if version == "before":
        body = ["report", "ready", {MEMBER: STANDING, name: wrong}, {}, 17]
        right = Report("ready", {MEMBER: RIGHT_STANDING}, {}, 17)
    else:
        if isinstance(wrong, list) and len(wrong) == 5:
            wrong = [*wrong, {}]
        told = {MEMBER: STATE, name: wrong}
        body = ["report", "ready", {}, {}, None, {}, {}, None, told, 17]
        right = Report("ready", {}, {}, None, {}, states={MEMBER: RIGHT_STATE}, said=17)
    assert decode(sent(body), None, SENT, 30_000, refused.append).body == right
    assert len(refused) == 1


@pytest.mark.parametrize(
    ("body", "right", "number"),
    [
        (
            ["report", "ready", {MEMBER: STANDING_AND_MORE}, {}, 17],
            Report(
                "ready",
                {MEMBER: PreviousMemberReport(RUN, "", "", (0, 0), {RUN: (7, None)})},
                {},
                17,
            ),
            1,
        ),
        (
            ["report", "ready", {MEMBER: [RUN, "", "", [0, 0], {RUN: [0, 2**63]}]}, {}, 17],
            Report("ready", {MEMBER: RIGHT_STANDING}, {}, 17),
            1,
        ),
        (
            ["report", "ready", {}, {}, None, {}, {}, None, {MEMBER: STATE_AND_MORE}, 17],
            Report("ready", {}, {}, None, {}, states={MEMBER: RIGHT_STATE}, said=17),
            2,
        ),
        (
            ["report", "ready", {}, {OTHER: "x" * 256, "nobody": "b", SENDER: "a"}, 17],
            Report("ready", {}, {SENDER: "a"}, 17),
            2,
        ),
        (
            ["report", "ready", {}, {}, 17, {OTHER: -1, "nobody": 1, SENDER: 3}],
            Report("ready", {}, {}, 17, {SENDER: 3}),
            2,
        ),
        (
            ["report", "ready", {}, {}, 17, {f"{MEMBER}.{TOO_LATE}": 1, OTHER: 3}],
            Report("ready", {}, {}, 17, {OTHER: 3}),
            1,
        ),
        (
            ["report", "ready", {}, {}, 17, None, {"a/b.log": {"x": [0, 0, 0, 0]}, "/": {}}],
            Report("ready", {}, {}, 17, None, {"a/b.log": {}}),
            2,
        ),
        (
            ["delta", {}, 17, {}, [[*BLOCKED, "block", ""], [*BLOCKED, "explode", ""], 5]],
            Delta({}, 17, records=[Record(*BLOCKED, "block", "")]),
            2,
        ),
        (
            ["records", [1, 2], "", [[*BLOCKED, "withdraw", "", {MEMBER: [1, 0]}]], ""],
            None,
            1,
        ),
        (
            ["records", [1, 2], "", [[*BLOCKED, "block", "x" * 501], [*BLOCKED, "block", ""]], ""],
            RecordsPage((1, 2), "", [Record(*BLOCKED, "block", "")], ""),
            1,
        ),
        (
            ["keys", OTHER, 0, [[1, "k", bytes(16), 0], [2, "a b", bytes(16), 0]], 2],
            KeysPage(OTHER, 0, [(1, "k", bytes(16), 0)], 2),
            1,
        ),
        (
            ["runs", MEMBER, DAY, [2, 17], "", {RUN: [5, 1, 0], TOO_LATE: [5, 1, 0]}, ""],
            RunsPage(MEMBER, DAY, (2, 17), "", {RUN: (5, 1, 0)}, ""),
            1,
        ),
        (
            ["runs", MEMBER, DAY, [2, 17], "", {RUN: [5, 1]}, ""],
            RunsPage(MEMBER, DAY, (2, 17), "", {}, ""),
            1,
        ),
    ],
)
def test_an_entry_of_a_map_or_list_that_is_wrong_is_left_out_alone(
    body: Any, right: Body | None, number: int
) -> None:
    if right is None:
        assert reason(sent(body)) == "junk"
        return
    refused: list[str] = []
    assert decode(sent(body), None, SENT, 30_000, refused.append).body == right
    assert len(refused) == number


@pytest.mark.parametrize(
    "key",
    [
        [1, "", bytes(16), 0],
        [1, "k" * 129, bytes(16), 0],
        [1, "a b", bytes(16), 0],
        [1, "k\n", bytes(16), 0],
        [1, "ü", bytes(16), 0],
        [1, "k", bytes(15), 0],
        [1, "k", "k" * 16, 0],
        [1, "k", bytes(16), -1],
        [1, "k", bytes(16)],
        "k",
    ],
)
def test_a_key_that_is_wrong_is_left_out_alone(key: Any) -> None:
    refused: list[str] = []
    body = ["keys", OTHER, 0, [key, [2, "k", bytes(16), 0]], 2]
    right = KeysPage(OTHER, 0, [(2, "k", bytes(16), 0)], 2)
    assert decode(sent(body), None, SENT, 30_000, refused.append).body == right
    assert len(refused) == 1


def test_the_last_run_of_all_is_of_the_year_2200() -> None:
    for run, number in ((LATEST_RUN, 0), (TOO_LATE, 1), ("z" * 23, 1)):
        refused: list[str] = []
        state = MemberReport("", "", "", (0, 0), {run: (1, 1, 0)}, {})
        data = encode(message(Report("ready", {}, {}, None, states={MEMBER: state})), None)
        assert isinstance(decode(data, None, SENT, 30_000, refused.append).body, Report)
        assert len(refused) == number


def test_text_that_is_not_utf8_is_dropped() -> None:
    data = encode(message(BODIES["delta"]), None)
    assert reason(data.replace(b"cats", b"c\xffts")) == "junk"


@given(st.binary(max_size=300))
def test_junk_is_dropped_whatever_it_is(junk: bytes) -> None:
    assert reason(b"\x03\x00" + junk) == "junk"


@given(st.binary(min_size=1, max_size=20), st.integers(0, 400))
def test_a_damaged_message_is_dropped_or_still_well_formed(damage: bytes, position: int) -> None:
    data = bytearray(encode(message(BODIES["report"]), None))
    data[position : position + len(damage)] = damage
    try:
        envelope = decode(bytes(data), None, SENT, 30_000)
    except RejectedError:
        return
    again = decode(encode(envelope, None), None, SENT, 30_000)
    assert again == envelope
