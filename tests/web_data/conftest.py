"""Fixtures of the tests of stored data: both databases, and apps that read no real video."""

from contextlib import closing

import pytest
from databases import POSTGRESQL_PROGRAMS, PostgresqlPlace, SqlitePlace
from web_support import make_app
from web_videos import COMMAND

from emotion.web.database import Database


@pytest.fixture(scope="session")
def postgresql():
    if not (POSTGRESQL_PROGRAMS / "initdb").exists():
        pytest.skip("PostgreSQL is not installed")
    place = PostgresqlPlace()
    yield place
    place.remove()


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
