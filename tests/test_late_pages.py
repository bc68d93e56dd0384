"""Repairs over slow links, step by step: what was asked of whom, and where each one goes on."""

from counter.crdt.ids import encode_id
from counter.crdt.tally import Tally
from counter.protocol.messages import RepairPage, RepairRequest
from counter.protocol.peers import Peer, Peers
from counter.protocol.questions import Questions
from counter.protocol.repairs import Repairs

WRITER = f"a~{encode_id(1, 13)}.{encode_id(1, 23)}"
OTHER = f"b~{encode_id(2, 13)}.{encode_id(1, 23)}"
SYNC_INTERVAL, MESSAGE_TTL = 1.0, 30.0


class Slow:
    """A node that misses counts of WRITER, which two peers hold; answers take two intervals."""

    def __init__(self) -> None:
        self.tally = Tally()
        peers = Peers(3 * SYNC_INTERVAL, MESSAGE_TTL)
        self.writer = self._hear(peers, WRITER, "a")
        self.other = self._hear(peers, OTHER, "b")
        self.repairs = Repairs(
            self.tally, peers, Questions(2 * SYNC_INTERVAL), SYNC_INTERVAL, MESSAGE_TTL
        )

    def _hear(self, peers: Peers, replica: str, address: str) -> Peer:
        return peers.hear(replica, address, 0.0)[0]

    def told(self, peer: Peer, now: float) -> RepairRequest | None:
        """A peer says that it holds a thousand."""
        return self.repairs.compare(WRITER, 1_000, peer, now)

    def page(self, peer: Peer, at: int | None, now: float) -> RepairRequest | None:
        """A page has come from a peer that goes on at a position."""
        answer = RepairPage(WRITER, {f"video-{at}": 1}, at)
        assert self.repairs.wants(answer, peer, now)
        self.tally.merge(WRITER, answer.counts)
        asks = self.repairs.go_on(answer, peer, now)
        assert len(asks) <= 1
        return asks[0] if asks else None


def test_a_page_of_one_peer_is_gone_on_with_while_another_is_asked() -> None:
    """Else two that answer too late for each other's turn are asked for page one for ever."""
    slow = Slow()
    first = slow.told(slow.writer, 0.0)
    second = slow.told(slow.other, 1.0)
    assert first is not None
    assert second is not None
    next_of_first = slow.page(slow.writer, 5, 2.0)
    assert next_of_first is not None
    assert (next_of_first.after, next_of_first.salt) == (5, first.salt)
    assert next_of_first.hashes == first.hashes
    next_of_second = slow.page(slow.other, 7, 3.0)
    assert next_of_second is not None
    assert (next_of_second.after, next_of_second.salt) == (7, second.salt)
    assert next_of_second.hashes == second.hashes


def test_nobody_else_is_asked_while_pages_come_from_anybody() -> None:
    slow = Slow()
    assert slow.told(slow.writer, 0.0)
    assert slow.told(slow.other, 1.0)
    assert slow.page(slow.writer, 5, 2.0)
    assert slow.told(slow.other, 2.5) is None
    assert slow.told(slow.writer, 2.5) is None


def test_a_repair_that_is_at_its_end_is_begun_anew_when_something_is_missing() -> None:
    slow = Slow()
    assert slow.told(slow.writer, 0.0)
    assert slow.page(slow.writer, None, 0.1) is None
    assert slow.told(slow.writer, 0.2)
