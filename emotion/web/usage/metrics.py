"""Figures for Prometheus at /metrics; none is about a person. Imported only if METRICS is on."""

import math
from collections.abc import Iterator

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
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from emotion.errors import DatabaseError
from emotion.web.logs import elapsed_s, route
from emotion.web.services import Services
from emotion.web.videos.queue import WAITING
from emotion.web.videos.workers import VideoWorkers

ENDS = ("done", "failed", "cancelled")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The counts of one process; each worker has its own."""

    def __init__(self, services: Services):
        """Use a registry of our own, so that several apps fit into one process."""
        self.registry, workers = CollectorRegistry(), services.videos.workers
        # a label is one of a few words, never any text that a request brings
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
        gauges = (
            ("photos_in_hand", "Photos read or waiting to be", lambda: services.gate.in_hand),
            ("videos_in_work", "Videos being analysed", lambda: len(workers.in_work)),
            ("videos_waiting", "Videos in the queue", lambda: _waiting(services)),
        )
        for name, text, value in gauges:
            Gauge(f"emotion_{name}", text, registry=self.registry).set_function(value)
        self.registry.register(EndedVideos(workers))
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


def _waiting(services: Services) -> float:
    """Return how many videos wait, in all processes together; NaN if nobody can tell."""
    try:
        return services.videos.rows.count(WAITING)
    except DatabaseError:
        return math.nan


class EndedVideos(Collector):
    """How many videos ended in which way; threads count them, not requests."""

    def __init__(self, workers: VideoWorkers):
        self._workers = workers

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield the figures as they are now."""
        ended = CounterMetricFamily("emotion_videos", "Videos that ended", labels=("outcome",))
        for outcome in ENDS:
            ended.add_metric((outcome,), self._workers.ended[outcome])
        yield ended


def measure(app: Flask, services: Services) -> None:
    """Count every request of an app, and answer /metrics."""
    metrics = Metrics(services)
    app.after_request(metrics.count)
    app.add_url_rule("/metrics", "metrics", metrics.show)
