"""Bounded work: places at the gate, rates of a client, and whose word about itself is believed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from flask import request
from web_support import (
    StandInDetector,
    looking_model,
    make_app,
    make_app_without_model,
    photo_form,
)

from emotion.errors import BusyError
from emotion.web.limits import ClientBusyError, Gate, client_key
from emotion.web.settings import SettingsError

DOORS = ("/", "/api/v1/recognize")


def test_the_gate_lets_in_as_many_as_it_may_and_then_refuses_at_once():
    gate = Gate(2, 2)
    with gate.place("one"), gate.place("other"):
        assert gate.in_hand == 2
        with pytest.raises(BusyError, match="2 others"), gate.place("third"):
            pass
        assert gate.in_hand == 2
    assert gate.in_hand == 0


def test_one_client_holds_two_places_at_most():
    gate = Gate(8, 8)
    with gate.place("one"), gate.place("other"):
        with gate.place("one"):
            with pytest.raises(ClientBusyError), gate.place("one"):
                pass
            with gate.place("other"):
                assert gate.in_hand == 4
        with gate.place("one"):
            assert gate.in_hand == 3
    assert gate.in_hand == 0


def test_fewer_are_worked_on_at_the_same_time_than_are_let_in():
    gate, lock, at_work, most_at_work = Gate(8, 2), threading.Lock(), [0], [0]
    everybody_is_in = threading.Barrier(8)

    def work(client):
        everybody_is_in.wait()
        with gate.place(client):
            with lock:
                at_work[0] += 1
                most_at_work[0] = max(most_at_work[0], at_work[0])
            threading.Event().wait(0.01)
            with lock:
                at_work[0] -= 1

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(work, f"client {number}") for number in range(8)]:
            done.result()
    assert 1 <= most_at_work[0] <= 2


class Stopped(StandInDetector):
    """A detector that works until it is told to go on."""

    def __init__(self):
        super().__init__()
        self.began, self.go_on = threading.Semaphore(0), threading.Event()

    def detect(self, image):
        self.began.release()
        self.go_on.wait(30)
        return super().detect(image)


def test_beyond_the_places_there_is_503_at_once_and_then_all_is_well(tmp_path):
    detector = Stopped()
    app = make_app(tmp_path, detector=detector, MAX_IN_HAND=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(app.test_client().post, DOORS[1], data=photo_form())
        detector.began.acquire()
        try:
            client = app.test_client()
            assert client.get("/").status_code == 200
            page, problem = (client.post(door, data=photo_form()) for door in DOORS)
        finally:
            detector.go_on.set()
        assert first.result().status_code == 200
    for reply in (page, problem):
        assert reply.status_code == 503
        assert reply.headers["Retry-After"] == "2"
        assert reply.headers["Cache-Control"] == "no-store"
    assert problem.mimetype == "application/problem+json"
    assert client.post(DOORS[1], data=photo_form()).status_code == 200


WORK = {
    "explanation": ("GET", "/api/v1/photos/{photo}/faces/1/explanation"),
    "feedback": ("PUT", "/api/v1/photos/{photo}/faces/1/feedback"),
    "feedback form": ("POST", "/results/{photo}/faces/1/feedback"),
    "face page": ("GET", "/results/{photo}/faces/1"),
    "blurred": ("GET", "/results/{photo}/blurred.jpg"),
    "blurred of the API": ("GET", "/api/v1/photos/{photo}/blurred.jpg"),
    "zip": ("GET", "/sets/{set}/blurred.zip"),
}


def kept_photo(client):
    """Keep a photo and return the keys of it and of its set."""
    reply = client.post("/api/v1/photos", data=photo_form(), environ_overrides=address(9)).json
    return {"photo": reply["id"], "set": reply["set"]}


def address(number):
    return {"REMOTE_ADDR": f"192.0.2.{number}"}


def ask(client, name, keys, number):
    """Ask for something that makes work, from the address of that number."""
    method, path = WORK[name]
    said = {"data": {"emotion": "sad"}} if method == "POST" else {"json": {"emotion": "sad"}}
    said = {} if method == "GET" else said
    with client.open(
        path.format(**keys), method=method, environ_overrides=address(number), **said
    ) as reply:
        return reply.status_code, reply.headers.get("Retry-After")


def test_one_client_takes_the_places_of_no_other(tmp_path):
    app = make_app(tmp_path, looking_model())
    gate, client = Gate(8, 8), app.test_client()
    app.extensions["emotion"] = replace(app.extensions["emotion"], gate=gate)
    keys = kept_photo(client)
    with gate.place("192.0.2.1"), gate.place("192.0.2.1"):
        for name in ("explanation", "face page", "blurred", "blurred of the API", "zip"):
            assert ask(client, name, keys, 1) == (503, "2"), name
            assert ask(client, name, keys, 2) == (200, None), name
        for door in (*DOORS, "/api/v1/photos", "/live/frame"):
            assert post_from(client, "192.0.2.1", door).status_code == 503, door
            assert post_from(client, "192.0.2.2", door).status_code < 400, door
    assert ask(client, "zip", keys, 1) == (200, None)


# Rates


def test_work_without_a_photo_has_a_rate_of_its_own(tmp_path):
    limits = {"WORK_RATE_LIMIT": "2 per hour", "RATE_LIMIT": "1 per hour"}
    client = make_app(tmp_path, looking_model(), **limits).test_client()
    keys = kept_photo(client)
    for number, name in enumerate(WORK, 10):
        statuses = [ask(client, one, keys, number)[0] for one in (name, "blurred")]
        assert max(statuses) < 400, name
        status, wait = ask(client, name, keys, number)
        assert status == 429, name
        assert int(wait) >= 1
    assert ask(client, name, keys, 2)[0] < 400
    assert post_from(client, "192.0.2.10").status_code == 200


def post_from(client, address, door="/api/v1/recognize", **options):
    environment = {"REMOTE_ADDR": address}
    return client.post(door, data=photo_form(), environ_overrides=environment, **options)


def test_a_client_that_sends_too_many_is_told_to_wait(tmp_path):
    client = make_app(tmp_path, RATE_LIMIT="2 per hour").test_client()
    for number, door in enumerate(DOORS):
        sender = f"192.0.2.{number}"
        assert max(post_from(client, sender, door).status_code for _ in range(2)) < 400
        refused = post_from(client, sender, door)
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["Retry-After"]) <= 3600
        assert (refused.mimetype == "application/problem+json") == door.startswith("/api/")
        assert post_from(client, "192.0.2.99", door).status_code < 400
        assert client.get("/", environ_overrides={"REMOTE_ADDR": sender}).status_code == 200


def test_form_and_api_count_together_and_each_photo_counts(tmp_path):
    client = make_app(tmp_path, RATE_LIMIT="4 per hour").test_client()
    two = {"photo": [photo_form()["photo"], photo_form()["photo"]]}
    assert client.post("/", data=two).status_code == 303
    assert client.post("/api/v1/recognize", data=photo_form()).status_code == 200
    two = {"photo": [photo_form()["photo"], photo_form()["photo"]]}
    assert client.post("/", data=two).status_code == 429


def test_a_subscriber_of_ipv6_is_one_client(tmp_path):
    app = make_app_without_model(tmp_path)
    for one, other, is_same in (
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("somewhere", "elsewhere", False),
    ):
        keys = []
        for address in (one, other):
            with app.test_request_context(environ_overrides={"REMOTE_ADDR": address}):
                keys.append(client_key())
        assert (keys[0] == keys[1]) == is_same


def test_a_storage_of_rates_that_there_is_not(tmp_path):
    for address in ("nowhere://x", "nonsense"):
        with pytest.raises(SettingsError, match="RATE_LIMIT_STORAGE"):
            make_app(tmp_path, RATE_LIMIT_STORAGE=address)


# Proxies in front

FORWARDED = {
    "X-Forwarded-For": "203.0.113.9, 198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "faces.example",
}


@pytest.mark.parametrize(
    ("proxies", "seen"),
    [
        (0, ("127.0.0.1", "http", "localhost")),
        (1, ("198.51.100.7", "https", "faces.example")),
        (2, ("203.0.113.9", "http", "localhost")),
    ],
)
def test_proxies_are_believed_only_when_told_to(tmp_path, proxies, seen):
    """Of two, each must have added its word: one alone could have been said by anybody."""
    app = make_app(tmp_path, TRUSTED_PROXIES=proxies)
    found = []
    app.before_request(
        lambda: found.append((request.remote_addr, request.scheme, request.host)) or None
    )
    app.test_client().get("/", headers=FORWARDED)
    assert found == [seen]


@pytest.mark.parametrize(("proxies", "statuses"), [(0, [200, 429]), (1, [200, 200])])
def test_clients_behind_a_proxy_are_counted_one_by_one(tmp_path, proxies, statuses):
    client = make_app(tmp_path, RATE_LIMIT="1 per hour", TRUSTED_PROXIES=proxies).test_client()
    received = [
        post_from(client, "127.0.0.1", headers={"X-Forwarded-For": address}).status_code
        for address in ("192.0.2.1", "192.0.2.2")
    ]
    assert received == statuses
