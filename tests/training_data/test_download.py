"""The download with the real client of Kaggle, whose requests are answered here."""

import io
import json
import logging
import os
import shutil
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from training_data import make_dataset, put, write_classes, write_csv, write_zip

from emotion.errors import DatasetError
from emotion.training.data import download
from emotion.training.data.download import PAGES, download_fer2013
from emotion.training.data.layouts import read_layout

pytest.importorskip("kagglehub")


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """Leave no credentials, no proxy and no home folder of the person who runs the tests."""
    for name in list(os.environ):
        if "KAGGLE" in name or "PROXY" in name.upper():
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    kept_in = "kagglehub.config.DEFAULT_KAGGLE_CREDENTIALS_FOLDER"
    monkeypatch.setattr(kept_in, str(tmp_path / "home/.kaggle"))
    level = logging.getLogger("kagglehub").level
    yield
    logging.getLogger("kagglehub").setLevel(level)


@pytest.fixture
def folder(tmp_path) -> Path:
    return put(tmp_path / "dataset", {"README.md": b"keep me"})


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """Answer as Kaggle does; `refuse` has the status to refuse a kind of request with."""
    small = make_dataset(train=14, validation=0, test=7)
    described = {"ownerSlug": "msambare", "slug": "fer2013", "currentVersionNumber": 1}
    csv, packed = write_csv(tmp_path / "served.csv", small), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:  # as the challenge hands it out
        archive.addfile(tarfile.TarInfo("fer2013/README"))
        archive.add(csv, "fer2013/fer2013.csv")
    replies = {
        "GetDataset": ("json", json.dumps(described).encode()),
        "fer2013.tar.gz": ("gzip", packed.getvalue()),
        "icml_face_data.csv": ("csv", csv.read_bytes()),
        "DownloadDataset": ("zip", write_zip(tmp_path / "served.zip", small).read_bytes()),
    }
    state = SimpleNamespace(refuse={}, asked=[], authorization=set(), replies=replies)

    def send(adapter, request, **options):
        asked = json.loads(request.body).get("fileName", request.path_url.rsplit("/", 1)[1])
        state.asked.append(asked)
        state.authorization.add(request.headers["Authorization"])
        if not replies:
            raise requests.ConnectionError("nobody is there")
        reply = requests.Response()
        reply.status_code = state.refuse.get(asked, state.refuse.get("all", 200))
        kind, content = replies[asked]
        if reply.status_code != 200:
            refused = {"code": reply.status_code, "message": "no"}
            kind, content = "json", json.dumps(refused).encode()
        reply.headers["Content-Type"] = f"application/{kind}"
        reply.headers["Content-Length"] = str(len(content))
        reply.url, reply.request, reply.raw = request.url, request, io.BytesIO(content)
        return reply

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_secret")
    return state


def test_without_credentials_or_kagglehub_the_steps_are_told(folder, tmp_path, monkeypatch):
    for kind, name in (("folders", "archive.zip"), ("csv", "fer2013.csv")):
        with pytest.raises(DatasetError) as caught:
            download_fer2013(folder, kind)
        first, _, others = str(caught.value).partition("\n")
        assert "credentials" in first
        for step in (f"train --dataset {folder}/{name}", PAGES[kind], "KAGGLE_API_TOKEN"):
            assert step in others
    assert left_in(folder) == ["README.md"]
    put(tmp_path / "home/.kaggle", {"kaggle.json": b"{"})
    with pytest.raises(DatasetError, match=r"kaggle.json(?s:.*)By hand"):
        download_fer2013(folder)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(DatasetError, match=r"run.py setup(?s:.*)By hand"):
        download_fer2013(folder)


@pytest.mark.parametrize("case", ["folders fer2013", "csv fer2013.csv", "csv fer2013.csv 404"])
def test_it_is_put_in_place(folder, kaggle, case, capfd):
    kind, place, *refused = case.split()  # where the archive is gone there is another csv
    kaggle.refuse |= dict.fromkeys(["fer2013.tar.gz"] * len(refused), 404)
    (folder / ".download" / "fetched" / "train").mkdir(parents=True)  # of a killed download
    lines = download_fer2013(folder, kind)
    assert left_in(folder) == ["README.md", place]
    assert len(read_layout(folder / place)) == 21
    assert "14 train, 7 test images of 7 classes" in lines[0]
    assert "28,709" in lines[1]
    assert lines[-1].endswith(f"python3 run.py train --dataset {folder / place}")
    assert kaggle.authorization == {"Bearer KGAT_secret"}
    assert "secret" not in "".join(capfd.readouterr())


def test_whatever_goes_wrong_is_a_sentence_and_steps(folder, kaggle, monkeypatch, tmp_path):
    put(folder, {"fer2013/mine.txt": b"mine"})

    def fails(words: str) -> None:
        with pytest.raises(DatasetError, match=words + r"(?s:.*)By hand") as caught:
            download_fer2013(folder, overwrite=True)
        assert "secret" not in str(caught.value)
        assert left_in(folder) == ["README.md", "fer2013"]
        assert left_in(folder / "fer2013") == ["mine.txt"], "a failed download replaces nothing"

    for status, words in ((401, r"\(401\)"), (403, PAGES["folders"]), (500, "received: no")):
        kaggle.refuse["all"] = status
        fails(words)
    kaggle.refuse.clear()
    root = write_classes(tmp_path / "animals", 1, ("cat", "dog"))
    animals = Path(shutil.make_archive(str(root), "zip", root)).read_bytes()
    for content, words in ((animals, r"4 images of cat, dog\n"), (b"no zip", "received: ")):
        kaggle.replies["DownloadDataset"] = ("zip", content)
        fails(words)
    kaggle.replies.clear()
    fails("no connection")
    asked = len(kaggle.asked)
    usage = SimpleNamespace(free=20_000_000)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    fails(r"500.* MB .*20.* MB")
    assert len(kaggle.asked) == asked, "a full disk is told before"


def test_what_is_there_stays_unless_told(folder, kaggle):
    put(folder, {"fer2013/mine.txt": b"mine"})
    with pytest.raises(DatasetError, match="--overwrite"):
        download_fer2013(folder)
    assert not kaggle.asked
    download_fer2013(folder, overwrite=True)
    assert left_in(folder / "fer2013") == ["test", "train"]
