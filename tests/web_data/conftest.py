"""Fixtures of the tests of stored data: both databases, and apps that read no real video."""

import os
import shutil
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from web_support import Visit, make_app
from web_videos import COMMAND

from emotion.web.database import Database

POSTGRESQL_PROGRAMS = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), Path("none"))


class SqlitePlace:
    def __init__(self, folder):
        self.file = folder / "instance" / "emotion.sqlite"
        self.url = f"sqlite:///{self.file}"
        self.aside = folder / "aside"

    def take_away(self, database):
        database.close()  # what is open outlives its file
        self.file.parent.rename(self.aside)
        self.file.mkdir(parents=True)

    def bring_back(self):
        shutil.rmtree(self.file.parent)
        self.aside.rename(self.file.parent)


class PostgresqlPlace:
    """Debian's PostgreSQL in a folder of its own, behind a socket there."""

    def __init__(self, folder):
        self.folder = folder
        self.url = f"postgresql://postgres@/postgres?host={folder}"
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        self._run("initdb", "-U", "postgres", "-A", "trust", "--no-sync")
        self.bring_back()

    def bring_back(self):
        options = f"-c listen_addresses='' -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "-o", options, "-l", self.folder / "log", "-w", "start")

    def take_away(self, database=None):
        self._run("pg_ctl", "-m", "immediate", "-w", "stop")

    def empty(self):
        # less time than a new database takes
        with psycopg.connect(f"host={self.folder} user=postgres", autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    def _run(self, program, *arguments):
        """Run a program of PostgreSQL, which refuses to run as root, as its own user."""
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*user, POSTGRESQL_PROGRAMS / program, "-D", self.folder / "data", *arguments]
        # a server that is started keeps what it inherits open, so it must not be a pipe
        nowhere = subprocess.DEVNULL
        subprocess.run(command, check=True, cwd="/", stdin=nowhere, stdout=nowhere, stderr=nowhere)


@pytest.fixture(scope="session")
def postgresql():
    if not (POSTGRESQL_PROGRAMS / "initdb").exists():
        pytest.skip("PostgreSQL is not installed")
    # not in pytest's folder, which is closed to others and whose name is too long for a socket
    with tempfile.TemporaryDirectory(prefix="pg-", ignore_cleanup_errors=True) as folder:
        place = PostgresqlPlace(Path(folder))
        yield place
        place.take_away()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    if request.param == "sqlite":
        return SqlitePlace(tmp_path)
    place = request.getfixturevalue("postgresql")
    place.empty()
    return place


@pytest.fixture
def database(place):
    with closing(Database(place.url)) as database:
        yield database


@pytest.fixture
def make(tmp_path):
    """Return a function that makes an app with a stand-in for the work; all are stopped."""
    apps = []

    def make_one(folder=tmp_path, command=COMMAND, **settings):
        app = make_app(folder, **{"VIDEO_RATE_LIMIT": "1000 per minute", **settings})
        app.extensions["emotion"].videos.workers.command = command
        apps.append(app)
        return app

    yield make_one
    for app in apps:
        app.extensions["emotion"].videos.workers.stop()
        app.extensions["emotion"].database.close()


@pytest.fixture
def visit(tmp_path):
    return Visit(tmp_path)
