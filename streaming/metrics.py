"""The server's numbers in Prometheus' text format: every buffer with its bound beside it.

admission, load, batcher, devices -> [metrics] -> `GET /metrics`
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from streaming.admission import Admission
from streaming.batcher import Batcher
from streaming.connections import Connections
from streaming.drafts import DraftRoutes
from streaming.load import LoadMeter
from streaming.runner import Runner

_SIZES = (1, 2, 4, 8, 16)  # of batches whose cost is shown


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ServerMetrics(Collector):
    """Reads the parts of the server at the moment when somebody asks."""

    max_sessions: int
    sessions: Admission
    load: LoadMeter
    batcher: Batcher
    runners: Sequence[Runner]
    connections: Connections
    connections_limit: int
    drafts: DraftRoutes

    def render(self) -> bytes:
        """The page's body, of type `CONTENT_TYPE_LATEST`."""
        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)  # process_cpu_seconds_total and the like
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._admission()
        refused = self.connections.refused
        yield _counter("livegloss_connections_refused", "TCP connections refused", refused)
        yield from self._load()
        yield from self._batcher()
        yield from self._sessions()
        yield from self._buffers()
        yield _counters("livegloss_drafts", "Drafts by how they ended", "end", self.drafts.ended)
        yield _gauge("livegloss_threads", "Threads alive", threading.active_count())

    def _admission(self) -> Iterator[Metric]:
        ready = self.sessions.not_ready() is None
        yield _gauge("livegloss_ready", "1 if a new session would be accepted", ready)
        yield _gauge("livegloss_sessions", "Sessions alive", len(self.sessions))
        yield _gauge("livegloss_sessions_limit", "Sessions at most", self.max_sessions)
        counts = self.sessions.counts
        yield _counter("livegloss_sessions_admitted", "Sessions begun", counts.admitted)
        yield _counters("livegloss_sessions_refused", "Offers refused", "reason", counts.refused)
        yield _counters("livegloss_sessions_ended", "Sessions ended", "reason", counts.ended)

    def _load(self) -> Iterator[Metric]:
        load, taken = self.load.load, self.sessions.taken
        shares = {"recogniser": load.recogniser, "decode": load.decode}
        yield _gauges("livegloss_share", "Mean share in use, 1 is all", "of", shares)
        lag = "How late the event loop runs what is due, mean"
        yield _gauge("livegloss_loop_lag_seconds", lag, load.loop_lag_s)
        full = self.load.fullness(taken)
        yield _gauges("livegloss_full", "1: as full as is allowed", "of", full)
        free = self.load.free_sessions(taken, max(0, self.max_sessions - taken))
        yield _gauge("livegloss_sessions_headroom", "Further sessions that would fit", free)
        hop_s = self.load.pace.hop_s
        yield _gauge("livegloss_hop_seconds", "Between two windows of a session", hop_s)

    def _batcher(self) -> Iterator[Metric]:
        counts = self.batcher.counts
        windows = {
            "due": counts.due,
            "done": counts.done,
            "replaced": counts.replaced,
            "failed": counts.failed,
            "withdrawn": counts.withdrawn,
        }
        yield _counters("livegloss_windows", "Windows by outcome", "outcome", windows)
        yield _counters("livegloss_failures", "Failed windows by cause", "kind", counts.failures)
        sizes = {str(size): count for size, count in sorted(counts.sizes.items())}
        yield _counters("livegloss_batches", "Batches by size", "size", sizes)
        serving = self.batcher.in_service
        yield _gauge("livegloss_devices_in_service", "Devices that get batches", serving)
        busy = {runner.device: runner.busy_s for runner in self.runners}
        yield _counters("livegloss_recognizer_seconds", "Time spent computing", "device", busy)
        cost = GaugeMetricFamily(
            "livegloss_batch_cost_seconds", "Expected time of a batch", labels=["device", "size"]
        )
        for runner in self.runners:
            for size in _SIZES:
                cost.add_metric([runner.device, str(size)], runner.cost(size))
        yield cost

    def _sessions(self) -> Iterator[Metric]:
        """Sums over the sessions alive now: gauges, because a session takes its share with it."""
        sums: Counter[str] = Counter()
        for session in self.sessions:
            sums.update(session.numbers())
        yield _gauges("livegloss_live_total", "Counts of the sessions alive", "what", sums)

    def _buffers(self) -> Iterator[Metric]:
        fullest: dict[str, tuple[float, float]] = {
            "connections": (len(self.connections), self.connections_limit),
            "waiting_offers": (self.sessions.coming, self.max_sessions),
            "waiting_windows": (len(self.batcher), self.max_sessions),
            "early_windows": (self.batcher.early, self.max_sessions),
            "drafts": (len(self.drafts), self.drafts.at_once),
        }
        for session in self.sessions:
            for name, (level, limit) in session.buffers().items():
                fullest[name] = (max(level, fullest.get(name, (0, 0))[0]), limit)
        held = {name: level for name, (level, _) in fullest.items()}
        yield _gauges("livegloss_buffer", "Content of the fullest session's", "buffer", held)
        bounds = {name: limit for name, (_, limit) in fullest.items()}
        yield _gauges("livegloss_buffer_bound", "Bound of a buffer", "buffer", bounds)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


def _counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
