import re
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import event, text

from emotion.errors import DatabaseError
from emotion.web import connections
from emotion.web import database as rows
from emotion.web.database import Database, Opinion, PhotoCount, PhotoRow
from emotion.web.settings import PROJECT_FOLDER, SettingsError

NOW_S = 1_795_260_000.0
OLD = Path(__file__).with_name("database_before.sql")
DAY = "2026-11-21"
SHA256 = "ab" * 32


def key(number):
    return f"{number:022d}"


def photo(number, **changes):
    row = PhotoRow(key(number), key(900), number, "visitor", NOW_S + number, NOW_S + 3600, 1, "sad")
    return replace(row, **changes)


def opinion(number=1, face=1, **changes):
    return replace(Opinion(key(number), face, "sad", "angry", SHA256, NOW_S), **changes)


def results(*answers, sha256=SHA256):
    """Return results of a photo with an (emotion, confidence, sure) for each face."""
    names = ("emotion", "confidence", "sure")
    faces = [dict(zip(names, answer, strict=True)) for answer in answers]
    return {"model": {"name": "m", "sha256": sha256}, "faces": faces}


def of_set(database, now_s=NOW_S):
    return [row.position for row in database.photos_of_set(key(900), now_s)]


def test_photos_are_remembered_replaced_ordered_and_forgotten(database, place):
    row = photo(1, faces=2, emotions="sad,happy", problem="“x” is 張. It's 100%.")
    database.remember(photo(1), photo(4, set_id=key(901), visitor=""))
    for number in (2, 3, 5):
        database.remember(photo(number, created_s=NOW_S - min(number, 3)))
    database.remember(row)
    assert database.photo(row.id, NOW_S) == row
    assert of_set(database) == [1, 2, 3, 5]
    assert [row.position for row in database.photos_of_visitor("visitor", NOW_S)] == [1, 2, 5, 3]
    for word in ("", "x\0y", "x" * 5000, "' OR 1=1 --", "😀" * 22):
        assert database.photo(word, NOW_S) is None
        assert database.photos_of_set(word, NOW_S) == ()
        assert database.photos_of_visitor(word, NOW_S) == ()
    for _ in range(2):
        database.forget(row.id)
    assert database.photo(row.id, NOW_S) is None
    # time is up even before anything is removed
    database.remember(photo(6, expires_s=NOW_S + 7200))
    later_s = NOW_S + 3600
    assert of_set(database, later_s) == [6]
    assert [row.id for row in database.photos_of_visitor("visitor", later_s)] == [key(6)]
    assert [database.forget_expired(later_s) for _ in range(2)] == [4, 0]
    assert of_set(database) == [6]


def test_counts_know_days_and_answers_and_no_photo(database):
    database.count(
        results(("happy", 0.93, True), ("happy", 0.97, True), ("sad", 0.4, False)), NOW_S
    )
    database.count(results(("happy", 1.0, True)), NOW_S)
    database.count(results(), NOW_S + 86400)
    database.count(results(("fear", 0.0, False), sha256="cd" * 32), NOW_S)
    with pytest.raises(DatabaseError):  # half-way, and leaves nothing
        database.count(results((None, 0.9, True)), NOW_S)
    counts, next_day = database.counts(), rows.day_of(NOW_S + 86400)
    of_day = {PhotoCount(DAY, SHA256, 2, 0), PhotoCount(DAY, "cd" * 32, 1, 0)}
    assert set(counts.photos) == {*of_day, PhotoCount(next_day, SHA256, 1, 1)}
    assert counts.photos[-1].day == next_day
    found = {(row.emotion, row.sure, row.bucket): row for row in counts.faces}
    assert found.keys() == {("happy", True, 9), ("sad", False, 4), ("fear", False, 0)}
    assert found["happy", True, 9].faces == 3
    assert found["happy", True, 9].confidence_sum == pytest.approx(0.93 + 0.97 + 1)
    assert found["sad", False, 4] == rows.FaceCount(DAY, SHA256, "sad", False, 4, 1, 0.4)


def test_an_opinion_replaces_the_one_before_and_can_be_withdrawn(database):
    first, second = opinion(kept="angry/1.png"), opinion(chosen="fear")
    assert database.say(first) is None
    assert [database.opinion_on(key(1), face) for face in (1, 2)] == [first, None]
    assert database.say(second) == first
    assert database.counts().opinions == (rows.OpinionCount(DAY, SHA256, "sad", "fear", 1),)
    assert [database.withdraw(key(1), 1) for _ in range(2)] == [second, None]
    assert database.counts().opinions == ()
    # on a photo of no known end it stays for the longest time
    database.say(first)
    for now_s, kept in (
        (NOW_S + rows.LONGEST_KEPT_S - 1, first),
        (NOW_S + rows.LONGEST_KEPT_S, None),
    ):
        database.forget_expired(now_s)
        assert database.opinion_on(key(1), 1) == kept
    assert len(database.counts().opinions) == 1


def test_of_photos_that_are_gone_numbers_stay_and_no_key(database):
    database.remember(photo(1), photo(2), photo(3, expires_s=NOW_S + 7200))
    for said in (opinion(1), opinion(1, face=2), opinion(2, chosen="sad"), opinion(3)):
        database.say(said)
    before = database.counts()
    database.forget(key(1))
    assert database.forget_expired(NOW_S + 3600) == 1
    found = [database.opinion_on(key(number), 1) for number in (1, 2, 3)]
    assert found == [None, None, opinion(3)]
    with database.transaction() as connection:
        tables = connections.Row.metadata.sorted_tables
        left = [row for table in tables for row in connection.execute(table.select())]
    assert left
    assert not re.search(f"{key(1)}|{key(2)}", str(left))
    assert set(database.counts().opinions) == set(before.opinions)
    assert set(before.opinions) == {
        rows.OpinionCount(DAY, SHA256, "sad", "angry", 3),
        rows.OpinionCount(DAY, SHA256, "sad", "sad", 1),
    }


def work(database, number):
    database.count(results(("happy", 0.95, True), ("sad", 0.6, True)), NOW_S)
    database.remember(photo(number))
    database.say(opinion(1, chosen=f"word {number}"))
    database.forget_expired(NOW_S)


WORKER = """
import sys
sys.path[:0] = ["tests", "tests/web_data"]
from test_web_database import Database, work
database = Database(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 10):
    work(database, number)
database.close()
"""


def test_processes_and_threads_that_start_and_write_at_once(database, place):
    command = [sys.executable, "-c", WORKER, place.url]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": PROJECT_FOLDER}
    workers = [subprocess.Popen([*command, first], **options) for first in ("100", "200")]
    for worker in workers:
        assert worker.stdout.readline() == b"ready\n"
    for worker in workers:
        worker.stdin.write(b"go\n")
        worker.stdin.flush()
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda number: work(database, number), range(1, 25)))
    for worker in workers:
        worker.communicate(timeout=120)
    assert [worker.returncode for worker in workers] == [0, 0]
    counts = database.counts()
    assert counts.photos == (PhotoCount(DAY, SHA256, 44, 0),)
    assert sum(row.faces for row in counts.faces) == 88
    assert sum(row.opinions for row in counts.opinions) == 1
    assert len(of_set(database)) == 44


def test_a_database_that_goes_away_and_returns_and_tables_that_are_gone(database, place):
    database.remember(photo(1))
    place.take_away(database)
    acts = ((database.remember, photo(2)), (of_set, database), (database.say, opinion()))
    for act, *arguments in (*acts, (database.counts,)):
        with pytest.raises(DatabaseError) as caught:
            act(*arguments)
        assert "\n" not in str(caught.value)
        assert "sqlite" not in str(caught.value)
    place.bring_back()
    database.remember(photo(2))
    assert of_set(database) == [1, 2]
    with database.transaction(writes=True) as connection:
        connections.Row.metadata.drop_all(connection)
    with pytest.raises(DatabaseError):
        database.remember(photo(2))
    database.remember(photo(3))
    assert of_set(database) == [3]


def test_a_database_of_another_version_is_refused(database, place):
    database.remember(photo(1))
    with database.transaction(writes=True) as connection:
        connection.execute(text("UPDATE emotion_schema SET version = 99"))
    with closing(Database(place.url)) as newer, pytest.raises(DatabaseError, match="99"):
        newer.remember(photo(2))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "instance" / "emotion.sqlite"


@pytest.fixture
def file_database(file):
    with closing(Database(f"sqlite:///{file}")) as database:
        yield database


def test_a_database_of_the_version_before_opens(tmp_path, file, file_database):
    file_database.remember(photo(1))
    old = tmp_path / "old.sqlite"
    with closing(sqlite3.connect(old)) as connection:
        connection.executescript(OLD.read_text(encoding="utf-8"))
    assert column_names(old).items() <= column_names(file).items()
    with closing(Database(f"sqlite:///{old}")) as database:
        row = photo(1, created_s=NOW_S, faces=2, emotions="sad,happy")
        assert database.photos_of_set(key(900), NOW_S) == (row,)
        assert database.opinion_on(key(1), 1) == opinion()
        assert database.claim(key(5), NOW_S).id == key(2)
        database.count(results(("sad", 0.5, True)), NOW_S)
        database.forget(key(1))
        assert database.counts() == rows.Counts(
            (PhotoCount(DAY, SHA256, 2, 0),),
            (rows.FaceCount(DAY, SHA256, "sad", True, 5, 2, 1.0),),
            (rows.OpinionCount(DAY, SHA256, "sad", "angry", 1),),
            (rows.VideoCount(DAY, SHA256, 1, 0, 2, 2.0),),
        )
    assert column_names(old) == column_names(file)  # newer tables were made


def column_names(file):
    with closing(sqlite3.connect(file)) as connection:
        return {
            table: {row[1:4] + row[5:] for row in connection.execute(f"PRAGMA table_info({table})")}
            for _, table, *_ in connection.execute("PRAGMA table_list").fetchall()
            if not table.startswith("sqlite")
        }


def test_readers_find_a_connection_however_many_writers_wait(file_database):
    file_database.remember(photo(1))
    with ExitStack() as waiting:
        for _ in range(40):
            waiting.enter_context(file_database.transaction())
        assert of_set(file_database) == [1]


def test_a_process_that_forked_opens_connections_of_its_own(database, monkeypatch):
    opened = []
    event.listen(database._engine, "connect", lambda connection, _: opened.append(connection))
    database.remember(photo(1))
    of_parent = list(opened)
    database.remember(photo(2))
    assert opened == of_parent
    monkeypatch.setattr(connections.os, "getpid", lambda: -1)
    assert of_set(database) == [1, 2]
    assert len(opened) == len(of_parent) + 1
    for connection in of_parent:
        # still open, as the parent needs it
        assert connection.execute("SELECT 1").fetchone() == (1,)
        connection.close()


OTHER_URLS = (
    ",nonsense,mysql://someone:secret@host/name,postgresql+psycopg2://someone:secret@host/name,"
    "postgresql://someone:secret@host:port/name,sqlite://,sqlite:///:memory:,"
    "sqlite:///file:x?mode=memory&uri=true"
)


def test_addresses_that_cannot_be_used_are_not_repeated():
    for scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        url = f"{scheme}://someone:secret@localhost:1/name"
        with closing(Database(url)) as database, pytest.raises(DatabaseError) as caught:
            database.counts()
        assert "secret" not in str(caught.value)
    for url in OTHER_URLS.split(","):
        with pytest.raises(SettingsError, match="DATABASE_URL") as caught:
            Database(url)
        assert "secret" not in str(caught.value)
