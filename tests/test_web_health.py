"""Health: what keeps the app from its work is told in a sentence without paths."""

import pytest
from web_support import make_app

from emotion.web.api import trouble
from emotion.web.database import Database, DatabaseError


def test_all_is_well_even_before_the_first_photo(tmp_path):
    app = make_app(tmp_path)
    assert trouble(app.extensions["emotion"]) == ""
    assert not (tmp_path / "uploads").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "uploads").write_text("no folder")
    services = make_app(tmp_path).extensions["emotion"]
    assert trouble(services) == "The folder for results cannot be written to."
    services = make_app(tmp_path, KEEP_HOURS=0).extensions["emotion"]
    assert trouble(services) == ""


def test_a_database_that_is_away(tmp_path, monkeypatch):
    def fail(*arguments):
        raise DatabaseError("expected a database; received nothing")

    services = make_app(tmp_path).extensions["emotion"]
    monkeypatch.setattr(Database, "photos_of_visitor", fail)
    with pytest.raises(DatabaseError):
        trouble(services)
