"""What an operator watches, in Prometheus' text format. No metric has a label per video."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric


class Gauges(NamedTuple):
    """What is read at the moment of asking."""

    ready: bool
    store_up: bool
    transport_up: bool
    unflushed: int
    live_pages: int
    closed_runs: int
    names_doubled: int
    folds: int
    keys: int
    keys_doubled: int
    longest_pause: float
    """Seconds, since this was last read."""
    peers: Iterable[tuple[str, int]]
    """For each live peer its member id and how many visits of this node it does not hold yet."""
    clocks: Iterable[tuple[str, float]]
    """For each member that says anything by how many seconds its clock is ahead of this node's."""
    fold_blockers: Iterable[tuple[str, float]]
    """For each member that folding waits for its id and for how many seconds it is silent."""
    log_unread: int


class Metrics:
    """The metrics of one node, in a registry of their own."""

    def __init__(self, read: Callable[[], Gauges]) -> None:
        self._read = read
        self._registry = CollectorRegistry()

        def counter(name: str, what: str, labels: Iterable[str] = ()) -> Counter:
            return Counter(name, what, labels, registry=self._registry)

        self.visits = counter("counter_visits", "Visits taken by this node in this run.")
        self.refused = counter(
            "counter_visits_refused",
            "Visits answered with 409 (full), 503 (not counted) or 504 (may be counted).",
            ("status",),
        )
        self.repeats = counter(
            "counter_keys_repeated", "Requests whose Idempotency-Key was known: not counted again."
        )
        self.messages_out = counter("counter_messages_sent", "Messages handed to the transport.")
        self.bytes_out = counter("counter_sent_bytes", "Their bytes.")
        self.messages_in = counter("counter_messages_received", "Messages taken in.")
        self.bytes_in = counter("counter_received_bytes", "Their bytes.")
        self.dropped = counter(
            "counter_messages_dropped", "Messages dropped, by reason.", ("reason",)
        )
        self.entries_refused = counter(
            "counter_entries_refused", "Entries of messages that were left out, as they are wrong."
        )
        self.log_lines = counter("counter_log_lines", "Visits read from the visit log.")
        self.log_junk = counter("counter_log_junk_lines", "Lines in it that are no visits.")
        self.log_refused = counter(
            "counter_log_refused_lines", "Visits in it of videos that can have no more."
        )
        self.flushes = counter("counter_flushes", "Batches written to the store.")
        self.flush_failures = counter("counter_flush_failures", "Writes that failed.")
        self.heals = counter(
            "counter_store_heals", "Times the store had lost something and was rewritten."
        )
        self.set_aside = counter(
            "counter_store_rows_set_aside",
            "Rows of the store that were not as they were written: kept beside, and not used.",
        )
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """What is read when asked for, as prometheus_client's registry wants it."""
        gauges = self._read()
        for name, what, value in (
            ("counter_ready", "Whether this node is ready (1) or not (0).", gauges.ready),
            ("counter_store_up", "Whether the last write succeeded.", gauges.store_up),
            ("counter_transport_up", "Whether messages can go out.", gauges.transport_up),
            ("counter_unflushed_visits", "Visits the store does not hold yet.", gauges.unflushed),
            ("counter_live_pages", "Open live connections.", gauges.live_pages),
            ("counter_closed_runs", "Ended runs that are to be folded.", gauges.closed_runs),
            ("counter_names_doubled", "Names that two live nodes bear.", gauges.names_doubled),
            (
                "counter_longest_pause_seconds",
                "For how long everything stood still at most since this was last read.",
                gauges.longest_pause,
            ),
            ("counter_keys", "Idempotency keys that this node holds.", gauges.keys),
            ("counter_log_unread_bytes", "Bytes of the visit log not read.", gauges.log_unread),
        ):
            yield GaugeMetricFamily(name, what, value=float(value))
        lag = GaugeMetricFamily(
            "counter_peer_lag_visits",
            "Visits of this node that a live peer has not reported to hold.",
            labels=("peer",),
        )
        for peer, behind in gauges.peers:
            lag.add_metric((peer,), behind)
        yield lag
        clocks = GaugeMetricFamily(
            "counter_clock_difference_seconds",
            "By how much the clock of another member is ahead, less what messages take.",
            labels=("member",),
        )
        for member, ahead in gauges.clocks:
            clocks.add_metric((member,), ahead)
        yield clocks
        fold_blockers = GaugeMetricFamily(
            "counter_awaited_seconds",
            "For how long a member that folding waits for was not heard.",
            labels=("member",),
        )
        for member, silent in gauges.fold_blockers:
            fold_blockers.add_metric((member,), silent)
        yield fold_blockers
        yield CounterMetricFamily(
            "counter_keys_doubled",
            "Idempotency keys under which two nodes have counted, neither knowing of the other.",
            value=gauges.keys_doubled,
        )
        yield CounterMetricFamily(
            "counter_folds", "Times that runs of a member were folded.", value=gauges.folds
        )

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
