"""Figures for Prometheus: off until asked for, each app its own, and no label from outside."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from web_support import make_app, photo_form, upload


def samples(client):
    """Return (name, labels) -> value."""
    reply = client.get("/metrics")
    assert reply.status_code == 200
    assert reply.mimetype == "text/plain"
    assert reply.headers["Cache-Control"] == "no-store"
    families = text_string_to_metric_families(reply.text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def requests(values, method, route, status):
    labels = (("method", method), ("route", route), ("status", str(status)))
    return values.get(("emotion_requests_total", labels), 0)


def test_requests_are_counted_by_route_and_status(tmp_path):
    client = make_app(tmp_path, METRICS="on").test_client()
    path = upload(client)
    client.get(path)
    client.get(path)
    client.get("/some/where")
    client.open("/", method="BREW")
    values = samples(client)
    assert requests(values, "POST", "/", 303) == 1
    assert requests(values, "GET", "/results/<analysis_id>", 200) == 2
    assert requests(values, "GET", "none", 404) == 1
    seconds = ("emotion_request_seconds_count", (("route", "/results/<analysis_id>"),))
    assert values[seconds] == 2
    assert values["emotion_photos_in_hand", ()] == 0
    assert (values["emotion_photos_total", ()], values["emotion_faces_total", ()]) == (1, 2)
    for outside in (path.rpartition("/")[2], "BREW", "where"):
        assert outside not in str(values)
    # off by default, and apps do not count for each other
    assert make_app(tmp_path / "off").test_client().get("/metrics").status_code == 404
    other = samples(make_app(tmp_path / "other", METRICS="on").test_client())
    assert requests(other, "POST", "/", 303) == 0


@pytest.mark.parametrize(
    ("settings", "reason"), [({"RATE_LIMIT": "1 per hour"}, "rate"), ({}, "busy")]
)
def test_refusals_are_counted(tmp_path, settings, reason):
    app = make_app(tmp_path, METRICS="on", MAX_IN_HAND=1, **settings)
    client = app.test_client()
    address = "/api/v1/recognize"
    if reason == "rate":
        statuses = [client.post(address, data=photo_form()).status_code for _ in range(2)]
        assert statuses == [200, 429]
    else:
        with app.extensions["emotion"].gate.place("somebody"):
            assert client.post(address, data=photo_form()).status_code == 503
    assert samples(client)["emotion_refused_total", (("reason", reason),)] == 1
