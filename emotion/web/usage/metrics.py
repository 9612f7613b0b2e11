"""Figures for Prometheus at /metrics; none is about a person. Imported only if METRICS is on."""

import contextlib
import math
from collections.abc import Iterator
from functools import partial

import prometheus_client as prometheus
from flask import Flask, Response, g, request
from flask.typing import ResponseReturnValue
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from emotion.errors import DatabaseError
from emotion.web.logs import elapsed_s, route
from emotion.web.services import Services

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


def measure(app: Flask, services: Services) -> None:
    """Count every request of an app in this process, and answer /metrics."""
    workers = services.videos.workers
    registry = prometheus.CollectorRegistry()  # our own, so that several apps fit into one process

    counter = partial(prometheus.Counter, registry=registry)
    # a label is one of a few words, never any text that a request brings
    requests = counter("emotion_requests", "Requests answered", ("method", "route", "status"))
    how = {"buckets": SECONDS, "registry": registry}
    seconds = prometheus.Histogram("emotion_request_seconds", "Time to an answer", ["route"], **how)
    photos = counter("emotion_photos", "Photos and frames read")
    faces = counter("emotion_faces", "Faces found")
    refused = counter("emotion_refused", "Requests told to wait", ("reason",))

    class Now(Collector):
        """What is so at the moment, and how videos ended: threads count them, not requests."""

        def collect(self) -> Iterator[Metric]:
            waiting = math.nan
            with contextlib.suppress(DatabaseError):
                waiting = services.database.videos_waiting()  # in all processes together
            in_hand, in_work = services.gate.in_hand, len(workers.in_work)
            yield GaugeMetricFamily("emotion_photos_in_hand", "Photos read or waiting", in_hand)
            yield GaugeMetricFamily("emotion_videos_in_work", "Videos being analysed", in_work)
            yield GaugeMetricFamily("emotion_videos_waiting", "Videos in the queue", waiting)
            ended = CounterMetricFamily("emotion_videos", "Videos that ended", labels=("outcome",))
            for outcome in ("done", "failed", "cancelled"):
                ended.add_metric((outcome,), workers.ended[outcome])
            yield ended

    registry.register(Now())
    prometheus.ProcessCollector(registry=registry)

    @app.after_request
    def count(response: Response) -> Response:
        method = request.method if request.method in METHODS else "other"
        where = route() or "none"
        requests.labels(method, where, response.status_code).inc()
        seconds.labels(where).observe(elapsed_s())
        photos.inc(g.get("photos", 0))
        faces.inc(g.get("faces", 0))
        if g.get("refused"):
            refused.labels(g.refused).inc()
        return response

    @app.get("/metrics")
    def metrics() -> ResponseReturnValue:
        headers = {"Content-Type": prometheus.CONTENT_TYPE_LATEST, "Cache-Control": "no-store"}
        return prometheus.generate_latest(registry), headers
