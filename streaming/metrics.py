"""The server's numbers in Prometheus' text format: every buffer with its bound beside it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from streaming.load import Usage

if TYPE_CHECKING:
    from streaming.server import Server

_SIZES = (1, 2, 4, 8, 16)  # of batches whose cost is shown


def render(server: Server) -> tuple[bytes, str]:
    """The page's body and content type, read from live objects at this moment."""
    registry = CollectorRegistry()
    registry.register(_Reading(server))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Reading(Collector):
    def __init__(self, server: Server) -> None:
        self._server = server

    def collect(self) -> Iterator[Metric]:
        yield from self._admission()
        yield from self._load()
        yield from self._batcher()
        yield from self._sessions()
        yield from self._buffers()
        usage = Usage.now()
        yield _gauge("livegloss_threads", "Threads alive", usage.threads)
        yield _counter("livegloss_cpu_seconds", "Processor time", usage.cpu_s)
        yield _gauge("livegloss_resident_bytes", "Memory in use", usage.resident_bytes)

    def _admission(self) -> Iterator[Metric]:
        server = self._server
        ready = server.sessions.not_ready() is None
        yield _gauge("livegloss_ready", "1 when a session would be taken", ready)
        limit = server.settings.server.max_sessions
        yield _gauge("livegloss_sessions", "Sessions alive", len(server.sessions))
        yield _gauge("livegloss_sessions_limit", "Sessions at most", limit)
        counts = server.sessions.counts
        yield _counter("livegloss_sessions_admitted", "Sessions begun", counts.admitted)
        yield _by("livegloss_sessions_refused", "Offers refused", "reason", counts.refused)
        yield _by("livegloss_sessions_ended", "Sessions ended", "reason", counts.ended)

    def _load(self) -> Iterator[Metric]:
        meter = self._server.load
        shares = GaugeMetricFamily(
            "livegloss_share", "Mean share in use of what there is", labels=["of"]
        )
        shares.add_metric(["recogniser"], meter.load.recogniser)
        shares.add_metric(["decode"], meter.load.decode)
        yield shares
        lag = "How late the event loop comes to what is due, mean"
        yield _gauge("livegloss_loop_lag_seconds", lag, meter.load.loop_lag_s)
        full = GaugeMetricFamily("livegloss_full", "1: as full as is allowed", labels=["of"])
        for name, share in meter.full.items():
            full.add_metric([name], share)
        yield full
        yield _gauge("livegloss_sessions_headroom", "Sessions that would be taken", meter.room)
        yield _gauge("livegloss_hop_seconds", "Between windows of a session", meter.pace.hop_s)

    def _batcher(self) -> Iterator[Metric]:
        counts = self._server.batcher.counts
        windows = {
            "due": counts.due,
            "done": counts.done,
            "replaced": counts.replaced,
            "failed": counts.failed,
            "withdrawn": counts.withdrawn,
        }
        yield _by("livegloss_windows", "Windows by what became of them", "outcome", windows)
        yield _by("livegloss_failures", "Windows failed, by why", "kind", counts.failures)
        sizes = {str(size): count for size, count in sorted(counts.sizes.items())}
        yield _by("livegloss_batches", "Batches by size", "size", sizes)
        serving = self._server.batcher.in_service
        yield _gauge("livegloss_devices_in_service", "Devices that get batches", serving)
        busy = CounterMetricFamily(
            "livegloss_recognizer_seconds", "Time spent recognising", labels=["device"]
        )
        cost = GaugeMetricFamily(
            "livegloss_batch_cost_seconds",
            "What a batch is thought to take",
            labels=["device", "size"],
        )
        for worker in self._server.devices:
            busy.add_metric([worker.device], worker.busy_s)
            for size in _SIZES:
                cost.add_metric([worker.device, str(size)], worker.cost(size))
        yield busy
        yield cost

    def _sessions(self) -> Iterator[Metric]:
        """Sums over the sessions alive now: gauges, because a session takes its share with it."""
        sums: dict[str, int] = {}
        for session in self._server.sessions:
            for name, value in session.numbers().items():
                sums[name] = sums.get(name, 0) + value
        family = GaugeMetricFamily(
            "livegloss_live_total", "Counts of the sessions alive", labels=["what"]
        )
        for name, value in sums.items():
            family.add_metric([name], value)
        yield family

    def _buffers(self) -> Iterator[Metric]:
        held = GaugeMetricFamily(
            "livegloss_buffer", "What a buffer holds, the fullest session's", labels=["buffer"]
        )
        bound = GaugeMetricFamily(
            "livegloss_buffer_bound", "What it may hold at most", labels=["buffer"]
        )
        places = self._server.settings.server.max_sessions
        fullest: dict[str, tuple[float, float]] = {
            "waiting_offers": (self._server.sessions.coming, places),
            "waiting_windows": (len(self._server.batcher), places),
        }
        for session in self._server.sessions:
            for name, (level, limit) in session.buffers().items():
                fullest[name] = (max(level, fullest.get(name, (0, 0))[0]), limit)
        for name, (level, limit) in fullest.items():
            held.add_metric([name], level)
            bound.add_metric([name], limit)
        yield held
        yield bound


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _by(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
