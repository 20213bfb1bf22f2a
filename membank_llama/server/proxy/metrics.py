"""What Prometheus reads at `/metrics`."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)


class Metrics:
    """Counts what goes by. Namespaces are no labels: their names are people's."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "membank_requests", "Requests by path and status.", ("path", "status"), registry=self._registry
        )
        self.remembered = Counter(
            "membank_recalls", "Requests with a memory, by what became of it.", ("state",), registry=self._registry
        )
        self.recall_seconds = Histogram(
            "membank_recall_seconds", "Time from a request to its memories.", buckets=_SECONDS, registry=self._registry
        )
        self.injected = Counter("membank_injected_tokens", "Tokens of injected blocks.", registry=self._registry)
        self.slot_restores = Counter(
            "membank_slot_restores", "Slots of a llama-server that were restored and used.", registry=self._registry
        )
        self.slot_tokens = Counter(
            "membank_slot_reused_tokens", "Tokens in them that were not read again.", registry=self._registry
        )
        self.slot_saves = Counter("membank_slot_saves", "Slots written to a file.", registry=self._registry)
        self.slot_failures = Counter(
            "membank_slot_failures", "Slots that were not restored or saved, or in vain.", registry=self._registry
        )
        self.turns = Counter("membank_turns", "Turns handed over to be remembered.", registry=self._registry)

    def watch(self, name: str, meaning: str, value: Callable[[], float]) -> None:
        """A gauge that is read when Prometheus asks."""
        Gauge(name, meaning, registry=self._registry).set_function(value)

    def text(self) -> bytes:
        """All of it, in Prometheus's text format."""
        return bytes(generate_latest(self._registry))
