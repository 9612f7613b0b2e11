"""Bounded work: places at the gate, rates of a client, and whose word about itself is believed."""

import pytest
from flask import request
from web_support import looking_model, make_app, of, photo_form, photos_form

from emotion.web.limits import LIMITS, Gate, client_key
from emotion.web.settings import SettingsError

DOORS = ("/", "/api/v1/recognize")
WORK = {
    "explanation": "/api/v1/photos/{id}/faces/1/explanation",
    "face page": "/results/{id}/faces/1",
    "two models": "/results/{id}/compare",
    "blurred": "/results/{id}/blurred.jpg",
    "blurred of the API": "/api/v1/photos/{id}/blurred.jpg",
    "zip": "/sets/{set}/blurred.zip",
}


def post_from(client, number, door="/api/v1/recognize"):
    return client.post(door, data=photo_form(), **of(number))


def ask(client, name, photo, number):
    with client.get(WORK[name].format(**photo), **of(number)) as reply:
        return reply.status_code, reply.headers.get("Retry-After")


def test_one_client_takes_the_places_of_no_other(tmp_path):
    app = make_app(tmp_path, looking_model())
    gate, client = Gate(8), app.test_client()
    app.extensions["emotion"].gate = gate
    photo = post_from(client, 9, "/api/v1/photos").json
    with gate.place("192.0.2.1"), gate.place("192.0.2.1"):
        for name in WORK:
            assert ask(client, name, photo, 1) == (503, "2"), name
            assert ask(client, name, photo, 2) == (200, None), name
        for door in (*DOORS, "/api/v1/photos", "/live/frame"):
            assert post_from(client, 1, door).status_code == 503, door
            assert post_from(client, 2, door).status_code < 400, door
    assert ask(client, "zip", photo, 1) == (200, None)


# what deletes, which costs next to nothing
UNLIMITED = "pages.delete pages.withdraw pages.delete_set pages.delete_mine videos.delete".split()
UNLIMITED += ["pages.withdraw_given"]


def test_no_address_that_is_sent_to_is_forgotten(tmp_path):
    rules = make_app(tmp_path).url_map.iter_rules()
    sent_to = {rule.endpoint for rule in rules if rule.methods & {"POST", "PUT", "PATCH"}}
    assert sent_to - set().union(*LIMITS.values()) == set(UNLIMITED)


def test_work_without_a_photo_has_a_rate_of_its_own(tmp_path):
    limits = {"WORK_RATE_LIMIT": f"{len(WORK)} per hour", "RATE_LIMIT": "1 per hour"}
    client = make_app(tmp_path, looking_model(), **limits).test_client()
    photo = post_from(client, 9, "/api/v1/photos").json
    assert {ask(client, name, photo, 1)[0] for name in WORK} == {200}
    said = {"path": f"/api/v1/photos/{photo['id']}/faces/1/feedback", "json": {"emotion": "sad"}}
    assert client.put(**said, **of(1)).status_code == 429
    form = client.post(f"/results/{photo['id']}/faces/1/feedback", data=said["json"], **of(1))
    assert form.status_code == 429
    for name in WORK:
        status, wait = ask(client, name, photo, 1)
        assert (status, int(wait) >= 1) == (429, True), name
    assert client.put(**said, **of(2)).status_code == 200
    assert post_from(client, 1).status_code == 200


def test_form_and_api_count_together_and_each_photo_counts(tmp_path):
    client = make_app(tmp_path, RATE_LIMIT="4 per hour").test_client()
    assert client.post("/", data=photos_form(None, None), **of(1)).status_code == 303
    assert post_from(client, 1).status_code == 200
    assert post_from(client, 1, "/").status_code == 303
    for door in DOORS:
        refused = post_from(client, 1, door)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 3600
        assert (refused.mimetype == "application/problem+json") == door.startswith("/api/")
        assert post_from(client, 99, door).status_code < 400
    assert client.get("/", **of(1)).status_code == 200


def test_a_subscriber_of_ipv6_is_one_client(tmp_path):
    app = make_app(tmp_path)

    def key_of(name):
        with app.test_request_context(environ_overrides={"REMOTE_ADDR": name}):
            return client_key()

    assert key_of("2001:db8:0:1::1") == key_of("2001:db8:0:1:ffff::2")
    others = ("2001:db8:0:1::1", "2001:db8:0:2::1", "192.0.2.1", "192.0.2.2", "somewhere")
    assert len(set(map(key_of, others))) == len(others)


def test_a_storage_of_rates_that_there_is_not(tmp_path):
    for name in ("nowhere://x", "nonsense"):
        with pytest.raises(SettingsError, match="RATE_LIMIT_STORAGE"):
            make_app(tmp_path, RATE_LIMIT_STORAGE=name)


FORWARDED = {
    "X-Forwarded-For": "203.0.113.9, 198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "faces.example",
}


def test_proxies_are_believed_only_when_told_to(tmp_path):
    """Of two, each must have added its word: one alone could have been said by anybody."""
    for proxies, seen in (
        (0, ("127.0.0.1", "http", "localhost")),
        (1, ("198.51.100.7", "https", "faces.example")),
        (2, ("203.0.113.9", "http", "localhost")),
    ):
        app, found = make_app(tmp_path, TRUSTED_PROXIES=proxies), []
        app.before_request(
            lambda found=found: found.append((request.remote_addr, request.scheme, request.host))
        )
        app.test_client().get("/", headers=FORWARDED)
        assert found == [seen]
