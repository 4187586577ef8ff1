"""Counters and times for Prometheus; nothing of a patient."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The numbers of one running page, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter(
            "edge_runtime_answers", "Uploaded files by outcome.", ["status", "reason"], registry=self.registry
        )
        self.step_seconds = Histogram(
            "edge_runtime_step_seconds", "Time of the steps of an answer.", ["step"], buckets=_SECONDS,
            registry=self.registry,
        )  # fmt: skip
        self.busy = Counter("edge_runtime_busy", "Uploads answered 503: no place was free.", registry=self.registry)
        self.responses = Counter(
            "edge_runtime_http_responses", "Responses by class of status.", ["status"], registry=self.registry
        )
        self.failed_logins = Counter("edge_runtime_failed_logins", "Wrong passphrases.", registry=self.registry)
        self.present = Gauge("edge_runtime_present", "Files with the model or waiting for it.", registry=self.registry)

    def text(self) -> bytes:
        """Return the numbers in Prometheus' text format."""
        return generate_latest(self.registry)
