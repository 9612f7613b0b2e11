"""Figures for Prometheus at /metrics, where the settings ask for them; none is about a person."""

from flask import Flask, Response, g, request
from flask.typing import ResponseReturnValue
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from emotion.web.gate import Gate
from emotion.web.logs import elapsed_s, route

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """What is counted in one process; each worker has its own."""

    def __init__(self, gate: Gate):
        """Count into a registry of one's own, so that several apps fit into one process."""
        self.registry = CollectorRegistry()
        # of what a request says, only what is one of a few words becomes a label
        labels = ("method", "route", "status")
        self._requests = self._counter("requests", "Requests answered", labels)
        self._seconds = Histogram(
            "emotion_request_seconds",
            "Time to an answer",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._photos = self._counter("photos", "Photos and frames read")
        self._faces = self._counter("faces", "Faces found")
        self._refused = self._counter("refused", "Requests told to wait", ("reason",))
        in_hand = Gauge(
            "emotion_photos_in_hand", "Photos read or waiting to be", registry=self.registry
        )
        in_hand.set_function(lambda: gate.in_hand)
        ProcessCollector(registry=self.registry)

    def _counter(self, name: str, text: str, labels: tuple[str, ...] = ()) -> Counter:
        return Counter(f"emotion_{name}", text, labels, registry=self.registry)

    def count(self, response: Response) -> Response:
        """Count the current request."""
        method = request.method if request.method in METHODS else "other"
        where = route() or "none"
        self._requests.labels(method, where, response.status_code).inc()
        self._seconds.labels(where).observe(elapsed_s())
        self._photos.inc(g.get("photos", 0))
        self._faces.inc(g.get("faces", 0))
        if g.get("refused"):
            self._refused.labels(g.refused).inc()
        return response

    def show(self) -> ResponseReturnValue:
        """Answer with all figures in Prometheus' text form."""
        headers = {"Content-Type": CONTENT_TYPE_LATEST, "Cache-Control": "no-store"}
        return generate_latest(self.registry), headers


def measure(app: Flask, gate: Gate) -> None:
    """Count every request of an app, and answer /metrics."""
    metrics = Metrics(gate)
    app.after_request(metrics.count)
    app.add_url_rule("/metrics", "metrics", metrics.show)
