"""Figures for Prometheus: off until asked for, each app its own, and no label from outside."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from web_support import make_app, photo_form, upload


def samples(client):
    """Return (name, *values of its labels) -> value."""
    reply = client.get("/metrics")
    assert (reply.status_code, reply.mimetype) == (200, "text/plain")
    assert reply.headers["Cache-Control"] == "no-store"
    return {
        (sample.name, *map(str, sample.labels.values())): sample.value
        for family in text_string_to_metric_families(reply.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_route_and_status(tmp_path):
    client = make_app(tmp_path, METRICS="on").test_client()
    path = upload(client)
    client.get(path)
    client.get(path)
    client.get("/some/where")
    client.open("/", method="BREW")
    values = samples(client)
    assert values["emotion_requests_total", "POST", "/", "303"] == 1
    assert values["emotion_requests_total", "GET", "/results/<analysis_id>", "200"] == 2
    assert values["emotion_requests_total", "GET", "none", "404"] == 1
    assert values["emotion_request_seconds_count", "/results/<analysis_id>"] == 2
    names = ("photos_in_hand", "videos_in_work", "videos_waiting", "photos_total", "faces_total")
    assert [values[f"emotion_{name}",] for name in names] == [0, 0, 0, 1, 2]
    assert values["emotion_videos_total", "done"] == 0
    for outside in (path.rpartition("/")[2], "BREW", "where"):
        assert outside not in str(values)
    # off by default, and apps do not count for each other
    assert make_app(tmp_path / "off").test_client().get("/metrics").status_code == 404
    other = samples(make_app(tmp_path / "other", METRICS="on").test_client())
    assert ("emotion_requests_total", "POST", "/", "303") not in other


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
    assert samples(client)["emotion_refused_total", reason] == 1
