"""The words between nodes: the wire is pinned by golden vectors; what is wrong is dropped."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.messages import (
    MAX_BYTES,
    Answer,
    Ask,
    AskKeys,
    Body,
    Condition,
    Delta,
    Envelope,
    RejectedError,
    Report,
    Standing,
    Taken,
    Tell,
    decode,
    encode,
)
from counter.positions import Position
from counter.vector import BUCKETS

SENDER = "counter1~7q2m9f2ck3x8a.01m83kr2yy3a0d1xw7bp3ns"
OTHER = "counter2~07b1a0zz5k2vd.01m83kr3000000000000001"
RUN, EARLIER = SENDER[-23:], "01m83kr0000000000000001"
FOLDED = f"{OTHER[:-24]}@{EARLIER}"
SENT = 1_795_417_705_423
SECRET = "a secret of this cluster"

READ = {"start": Position(0), "0123456789abcdef": Position(SENT, 1, 2**53, SENT)}

BODIES: dict[str, Body] = {
    "delta": Delta({"cats": 7, "dogs": 2**53 - 1}, 2**53 + 6),
    "delta with a log": Delta({"cats": 8}, 8, {"counter1/counter1.log": READ}),
    "report": Report(
        "ready",
        {
            SENDER[:-24]: Standing(RUN, "", "", (0, 0), {RUN: (8, None)}),
            OTHER[:-24]: Standing(
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
        "ready", {}, {}, 17, {}, {}, Condition(("sqlite", True), ("rabbitmq", False))
    ),
    "tell": Tell(),
    "ask for all": Ask(OTHER, b"", 1, 0),
    "ask for what is folded": Ask(FOLDED, b"", 1, 0),
    "ask for what differs": Ask(OTHER, bytes(range(64)), 2**31, 20_000),
    "answer": Answer(OTHER, {"cats": 1}, 77),
    "last answer": Answer(OTHER, {}, None),
    "ask for keys": AskKeys(OTHER, 2),
    "keys": Taken(OTHER, 2, [(3, "!7~", bytes(range(16)), 599_999)], 2**53),
}
STANDING = [RUN, "", "", [0, 0], {}]
GOLDEN = json.loads((Path(__file__).parent / "vectors" / "messages.json").read_text())


def message(body: Body, sent: int = SENT) -> Envelope:
    return Envelope(SENDER, "http://127.0.0.1:1231", sent, body)


def reason(data: bytes, secret: str | None = None, now: int = SENT) -> str:
    with pytest.raises(RejectedError) as rejected:
        decode(data, secret, now, 30_000)
    assert str(rejected.value)
    return rejected.value.reason


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("secret", [None, SECRET])
def test_the_wire_is_what_it_was(name: str, secret: str | None) -> None:
    golden = bytes.fromhex(GOLDEN[f"{name}, {'signed' if secret else 'plain'}"])
    assert encode(message(BODIES[name]), secret) == golden
    assert decode(golden, secret, SENT, 30_000) == message(BODIES[name])


def test_what_is_not_told_of_a_condition_takes_no_byte() -> None:
    # [sender, address, sent, ["report", state, members, peers, checksum, keys, logs]]
    silent = msgspec.msgpack.decode(encode(message(BODIES["report of logs"]), None)[2:])
    assert len(silent[3]) == 7
    told = msgspec.msgpack.decode(encode(message(BODIES["report of a condition"]), None)[2:])
    assert told[3][7:] == [[["sqlite", True], ["rabbitmq", False]]]


def test_more_than_this_release_knows_is_no_harm() -> None:
    known = encode(message(BODIES["report of a condition"]), None)
    more = msgspec.msgpack.decode(known[2:])
    more[3] += [17, {"a": "later release"}]
    assert decode(known[:2] + msgspec.msgpack.encode(more), None, SENT, 30_000) == (
        message(BODIES["report of a condition"])
    )


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
        ["delta", {"cats": 0}, 1],
        ["delta", {"cats": -1}, 1],
        ["delta", {"cats": 2**53}, 1],
        ["delta", {"cats": 1.5}, 1],
        ["delta", {"cats": "1"}, 1],
        ["delta", {"cats": True}, 1],
        ["delta", {"": 1}, 1],
        ["delta", {"c" * 129: 1}, 1],
        ["delta", {"cats\n": 1}, 1],
        ["delta", {"ca/ts": 1}, 1],
        ["delta", {"cats": 1}, -1],
        ["delta", {"cats": 1}, 2**63],
        ["delta", {"cats": 1}],
        ["delta", None, 1],
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
        ["answer", OTHER, {"cats": 1}, "77"],
        ["ask", OTHER.replace(".", "*"), b"", 1, 0],
        ["report", "asleep", {}, {}, 0],
        ["report", "ready", {"nobody": STANDING}, {}, 0],
        ["report", "ready", {OTHER: STANDING}, {}, 0],
        ["report", "ready", {OTHER[:-24]: ["", "", "", [0, 0]]}, {}, 0],
        ["report", "ready", {OTHER[:-24]: ["never", "", "", [0, 0], {}]}, {}, 0],
        ["report", "ready", {OTHER[:-24]: ["", RUN + RUN, "", [0, 0], {}]}, {}, 0],
        ["report", "ready", {OTHER[:-24]: ["", "", "", [-1, 0], {}]}, {}, 0],
        ["report", "ready", {OTHER[:-24]: ["", "", "", [0, "x"], {}]}, {}, 0],
        ["report", "ready", {OTHER[:-24]: ["", "", "", [0, 0, 0], {}]}, {}, 0],
        ["report", "ready", {OTHER[:-24]: ["", "", "", [0, 0], {"": [0, 0]}]}, {}, 0],
        ["report", "ready", {OTHER[:-24]: ["", "", "", [0, 0], {RUN: [0, 2**63]}]}, {}, 0],
        ["report", "ready", {}, {OTHER: "x" * 256}, 0],
        ["report", "ready", {}, {}, -1],
        ["report", "ready", {}, {}],
        ["report", "ready", {}, {}, 0, {OTHER: -1}],
        ["report", "ready", {}, {}, 0, {"nobody": 1}],
        ["report", "ready", {}, {}, 0, {}, {}, [["sqlite", True]]],
        ["report", "ready", {}, {}, 0, {}, {}, [["sqlite", 1], ["mesh", True]]],
        ["report", "ready", {}, {}, 0, {}, {}, [["<b>", True], ["mesh", True]]],
        ["report", "ready", {}, {}, 0, {}, {}, [["s" * 17, True], ["mesh", True]]],
        ["ask keys", OTHER, -1],
        ["ask keys", FOLDED, 0],
        ["keys", OTHER, 0, [[1, "", bytes(16), 0]], 1],
        ["keys", OTHER, 0, [[1, "k" * 129, bytes(16), 0]], 1],
        ["keys", OTHER, 0, [[1, "a b", bytes(16), 0]], 1],
        ["keys", OTHER, 0, [[1, "k\n", bytes(16), 0]], 1],
        ["keys", OTHER, 0, [[1, "ü", bytes(16), 0]], 1],
        ["keys", OTHER, 0, [[1, "k", bytes(15), 0]], 1],
        ["keys", OTHER, 0, [[1, "k", "k" * 16, 0]], 1],
        ["keys", OTHER, 0, [[1, "k", bytes(16), -1]], 1],
        ["keys", OTHER, 0, [[1, "k", bytes(16)]], 1],
        ["keys", OTHER, 0, [], 2**53 + 1],
        {"delta": 1},
        17,
        None,
    ],
)
def test_a_body_out_of_its_types_and_ranges_is_dropped(body: Any) -> None:
    data = b"\x03\x00" + msgspec.msgpack.encode([SENDER, "", SENT, body])
    assert reason(data) == "junk"


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
