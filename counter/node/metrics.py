"""What an operator watches, in Prometheus' text format. No metric has a label per video."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from counter.crdt.ids import CLASSES

# Each counter would have a second metric: when it was made. A restart shows in its value as well.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types


class Gauges(NamedTuple):
    """Values that are read when the metrics are asked for."""

    ready: bool
    store_up: bool
    transport_up: bool
    unflushed: int
    live_pages: int
    closed_runs: int
    duplicate_names: int
    folds: int
    videos: int
    records: int
    keys: int
    keys_counted_again: int
    longest_pause: float
    """Seconds, since this was last read."""
    peers: Iterable[tuple[str, int]]
    """For each live peer, its member id and how many visits of this node it does not hold yet."""
    clocks: Iterable[tuple[str, float]]
    """For each member that is heard or refused, how many seconds its clock is ahead of this one."""
    fold_blockers: Iterable[tuple[str, float]]
    """For each member that folding waits for, its id and for how many seconds it was silent."""
    log_unread: int
    not_counted: Iterable[tuple[str, int]]
    """For each class, how many visits of all members are in it."""
    recent_viewers: int = 0
    recent_viewers_forgotten: int = 0
    sketches_in_memory: int = 0
    sketches_damaged: int = 0


class Metrics:
    """The metrics of one node, in a registry of their own. `read` is called for each answer."""

    def __init__(self, read: Callable[[], Gauges]) -> None:
        self._read = read
        self._registry = CollectorRegistry()

        def counter(name: str, what: str, labels: Iterable[str] = ()) -> Counter:
            return Counter(name, what, labels, registry=self._registry)

        self.visits = counter("counter_visits", "Visits counted by this node in this run.")
        self.not_counted = counter(
            "counter_visits_not_counted",
            "Visits that this node answered in this run and that do not count, by class.",
            ("reason",),
        )
        for reason in CLASSES:
            self.not_counted.labels(reason)
        self.refused = counter(
            "counter_visits_refused",
            "Visits answered with 409 (full), 503 (not counted) or 504 (may be counted).",
            ("status",),
        )
        self.repeats = counter(
            "counter_keys_repeated", "Requests whose Idempotency-Key was known: not counted again."
        )
        self.keys_refused = counter(
            "counter_keys_refused", "Idempotency keys that there was no room for.", ("reason",)
        )
        self.new_refused = counter(
            "counter_new_videos_refused",
            "Ids that were refused: too many new ones, or not announced.",
            ("reason",),
        )
        self.messages_out = counter("counter_messages_sent", "Messages handed to the transport.")
        self.bytes_out = counter("counter_sent_bytes", "Bytes of these messages.")
        self.messages_in = counter("counter_messages_received", "Messages received.")
        self.bytes_in = counter("counter_received_bytes", "Bytes of these messages.")
        self.dropped = counter(
            "counter_messages_dropped", "Messages dropped, by reason.", ("reason",)
        )
        self.entries_refused = counter(
            "counter_entries_refused", "Entries of messages left out because they are invalid."
        )
        self.counts_refused = counter(
            "counter_counts_refused",
            "Counts of other nodes not taken: beyond the total that their writer has told.",
        )
        self.log_lines = counter("counter_log_lines", "Visits read from the visit log.")
        self.log_junk = counter("counter_log_junk_lines", "Lines of the visit log without a visit.")
        self.log_refused = counter(
            "counter_log_refused_lines",
            "Visits in the visit log of videos that are full or blocked, or that nobody announced.",
        )
        self.flushes = counter("counter_flushes", "Batches written to the store.")
        self.flush_failures = counter("counter_flush_failures", "Writes that failed.")
        self.heals = counter(
            "counter_store_heals", "Times the store had lost something and was rewritten."
        )
        self.set_aside = counter(
            "counter_store_rows_set_aside",
            "Damaged rows of the store: kept aside and not used.",
        )
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Read the gauges, as prometheus_client's registry asks for them."""
        gauges = self._read()
        for name, what, value in (
            ("counter_ready", "Whether this node is ready (1) or not (0).", gauges.ready),
            ("counter_store_up", "Whether the last write succeeded.", gauges.store_up),
            ("counter_transport_up", "Whether messages can go out.", gauges.transport_up),
            ("counter_unflushed_visits", "Visits the store does not hold yet.", gauges.unflushed),
            ("counter_live_pages", "Open live connections.", gauges.live_pages),
            ("counter_closed_runs", "Ended runs that are not folded yet.", gauges.closed_runs),
            ("counter_names_doubled", "Names that two live nodes share.", gauges.duplicate_names),
            ("counter_longest_pause_seconds", _PAUSE, gauges.longest_pause),
            ("counter_videos", "Videos that this node knows of.", gauges.videos),
            ("counter_keys", "Idempotency keys that this node holds.", gauges.keys),
            ("counter_records", "Corrections and blocks that this node holds.", gauges.records),
            ("counter_log_unread_bytes", "Unread bytes of the visit log.", gauges.log_unread),
            ("counter_recent_viewers", _RECENT, gauges.recent_viewers),
            ("counter_sketches_in_memory", _SKETCHES, gauges.sketches_in_memory),
        ):
            yield GaugeMetricFamily(name, what, value=float(value))
        yield _by_member("counter_visits_apart", _APART, "reason", gauges.not_counted)
        yield _by_member("counter_peer_lag_visits", _LAG, "peer", gauges.peers)
        yield _by_member("counter_clock_difference_seconds", _AHEAD, "member", gauges.clocks)
        yield _by_member("counter_awaited_seconds", _SILENT, "member", gauges.fold_blockers)
        for name, what, value in (
            ("counter_keys_doubled", _COUNTED_AGAIN, gauges.keys_counted_again),
            ("counter_folds", "Times that runs of a member were folded.", gauges.folds),
            ("counter_recent_viewers_forgotten", _FORGOTTEN, gauges.recent_viewers_forgotten),
            ("counter_sketches_damaged", _DAMAGED, gauges.sketches_damaged),
        ):
            yield CounterMetricFamily(name, what, value=value)

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


_PAUSE = "Longest time during which no thread ran, since this was last read."
_APART = "Visits of all members that do not count, by class."
_LAG = "Visits of this node that a live peer has not confirmed."
_AHEAD = "Seconds by which the clock of another member is ahead, less the time of travel."
_SILENT = "Seconds for which a member that folding waits for was silent."
_RECENT = "Viewers within REPEAT_WINDOW that this node knows of."
_FORGOTTEN = "Viewers forgotten within REPEAT_WINDOW, because there were too many."
_SKETCHES = "Sketches of viewers in memory."
_DAMAGED = "Sketches of viewers that were not as they were written, in the store or a message."
_COUNTED_AGAIN = "Idempotency keys that two nodes have counted, neither knowing of the other."


def _by_member(
    name: str, what: str, label: str, values: Iterable[tuple[str, float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, what, labels=(label,))
    for member, value in values:
        family.add_metric((member,), value)
    return family
