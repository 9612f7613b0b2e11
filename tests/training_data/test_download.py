import errno
import io
import json
import logging
import sys
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
import requests
from training_data import make_dataset, write_classes, write_csv, write_zip

from emotion.errors import DatasetError
from emotion.training.data import download
from emotion.training.data.download import PAGES, download_fer2013
from emotion.training.data.layouts import read_layout

kagglehub = pytest.importorskip("kagglehub")

VARIABLES = (
    "KAGGLE_API_TOKEN KAGGLE_USERNAME KAGGLE_KEY KAGGLE_CONFIG_DIR KAGGLE_API_ENVIRONMENT "
    "KAGGLE_KERNEL_RUN_TYPE HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy"
).split()


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """Leave no credentials, no proxy and no home folder of the person who runs the tests."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    kept_in = "kagglehub.config.DEFAULT_KAGGLE_CREDENTIALS_FOLDER"
    monkeypatch.setattr(kept_in, str(tmp_path / "home/.kaggle"))
    level = logging.getLogger("kagglehub").level
    yield
    logging.getLogger("kagglehub").setLevel(level)


@pytest.fixture
def token(monkeypatch):
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_secret")


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "dataset"
    path.mkdir()
    (path / "README.md").write_text("keep me")
    return path


def small():
    return make_dataset(train=14, validation=0, test=7)


def answer(monkeypatch, name: str, act):
    """Let a function of kagglehub do something else; return the list of its calls."""
    calls = []

    def stand_in(handle, path=None, *, force_download=False, output_dir=None):
        calls.append((handle, path))
        place = Path(output_dir) / (path or "")
        place.parent.mkdir(parents=True, exist_ok=True)
        act(place)
        return str(place)

    monkeypatch.setattr(kagglehub, name, stand_in)
    return calls


def refusal(status: int) -> Exception:
    response = requests.Response()
    response.status_code = status
    return kagglehub.exceptions.KaggleApiHTTPError(f"{status} Client Error.\n\nno", response)


def raising(error):
    def act(place):
        place.mkdir()
        raise error

    return act


def unzip_small(place: Path):
    source = write_zip(place.with_name("data.zip"), small())
    with zipfile.ZipFile(source) as archive:
        archive.extractall(place)
    (place / ".complete" / "datasets").mkdir(parents=True)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", ["folders", "csv"])
def test_without_credentials_the_steps_are_told(folder, kind):
    with pytest.raises(DatasetError) as caught:
        download_fer2013(folder, kind)
    first, _, others = str(caught.value).partition("\n")
    assert "credentials" in first
    name = {"folders": "archive.zip", "csv": "fer2013.csv"}[kind]
    for step in (f"train --dataset {folder}/{name}", PAGES[kind], "KAGGLE_API_TOKEN"):
        assert step in others
    assert left_in(folder) == ["README.md"]


def test_without_kagglehub_or_with_damaged_credentials(folder, tmp_path, monkeypatch):
    path = tmp_path / "home/.kaggle/kaggle.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(DatasetError, match=r"kaggle.json(?s:.*)By hand"):
        download_fer2013(folder)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(DatasetError, match=r"run.py setup(?s:.*)By hand"):
        download_fer2013(folder)


@pytest.mark.parametrize("names", ["KAGGLE_API_TOKEN", "KAGGLE_USERNAME KAGGLE_KEY"])
def test_folders_are_put_in_place(folder, monkeypatch, names):
    for name in names.split():
        monkeypatch.setenv(name, "k")
    (folder / ".download" / "fetched" / "train").mkdir(parents=True)  # of a killed download
    calls = answer(monkeypatch, "dataset_download", unzip_small)
    lines = download_fer2013(folder)
    assert calls == [("msambare/fer2013", None)]
    assert left_in(folder) == ["README.md", "fer2013"]
    assert left_in(folder / "fer2013") == ["test", "train"]
    assert "14 train, 7 test images of 7 classes" in lines[0]
    assert "28,709" in lines[1]
    assert lines[-1].endswith(f"python3 run.py train --dataset {folder / 'fer2013'}")


def test_the_other_csv_is_taken_where_the_archive_is_gone(folder, monkeypatch, token):
    def act(place):
        if place.name == "fer2013.tar.gz":
            raise refusal(404)
        write_csv(place, small())

    calls = answer(monkeypatch, "competition_download", act)
    download_fer2013(folder, "csv")
    assert [file for _, file in calls] == ["fer2013.tar.gz", "icml_face_data.csv"]
    assert len(read_layout(folder / "fer2013.csv")) == 21


FAILURES = {  # what kagglehub raises, and what the first line says
    "token": (refusal(401), "(401)"),
    "terms": (refusal(403), "https://www.kaggle.com/datasets/msambare/fer2013"),
    "server": (refusal(500), "500"),
    "no network": (requests.exceptions.ConnectionError("Name unknown"), "connection"),
    "slow": (requests.exceptions.ReadTimeout("slow"), "connection"),
    "full": (OSError(errno.ENOSPC, "No space left on device", "x"), "No space left"),
    "rights": (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x"),
    "damaged": (kagglehub.exceptions.DataCorruptionError("MD5"), "MD5"),
    "no zip": (zipfile.BadZipFile("no"), "no"),
}


@pytest.mark.parametrize("case", FAILURES, ids=str)
def test_whatever_goes_wrong_is_a_sentence_and_steps(folder, monkeypatch, token, case):
    error, sentence = FAILURES[case]
    answer(monkeypatch, "dataset_download", raising(error))
    with pytest.raises(DatasetError) as caught:
        download_fer2013(folder)
    message = str(caught.value)
    assert sentence in message.splitlines()[0]
    assert "By hand" in message
    assert "secret" not in message
    assert left_in(folder) == ["README.md"]


def test_what_is_no_fer2013_is_refused(folder, monkeypatch, token):
    answer(monkeypatch, "dataset_download", lambda place: write_classes(place, 1, ("cat", "dog")))
    with pytest.raises(DatasetError, match=r"4 images of cat, dog\n"):
        download_fer2013(folder)
    assert left_in(folder) == ["README.md"]


def test_what_is_there_stays_unless_told_and_a_full_disk_is_told_before(folder, monkeypatch, token):
    (folder / "fer2013").mkdir()
    (folder / "fer2013" / "mine.txt").write_text("mine")
    calls = answer(monkeypatch, "dataset_download", unzip_small)
    with pytest.raises(DatasetError, match="--overwrite"):
        download_fer2013(folder)
    with monkeypatch.context() as full:
        usage = SimpleNamespace(free=20_000_000)
        full.setattr(download.shutil, "disk_usage", lambda path: usage)
        with pytest.raises(DatasetError, match=r"500.* MB .*20.* MB"):
            download_fer2013(folder, overwrite=True)
    assert not calls
    answer(monkeypatch, "dataset_download", raising(refusal(403)))
    with pytest.raises(DatasetError, match="403"):
        download_fer2013(folder, overwrite=True)
    assert (folder / "fer2013" / "mine.txt").exists(), "a failed download replaces nothing"
    answer(monkeypatch, "dataset_download", unzip_small)
    download_fer2013(folder, overwrite=True)
    assert left_in(folder / "fer2013") == ["test", "train"]


def packed_csv(path: Path) -> bytes:
    """Return a .tar.gz as the challenge hands it out."""
    with io.BytesIO() as packed:
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            archive.add(write_csv(path, small()), "fer2013/fer2013.csv")
            archive.addfile(tarfile.TarInfo("fer2013/README"))
        return packed.getvalue()


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """Serve what Kaggle serves to the real client, on loopback; `refuse` sets a status."""
    from kagglesdk import kaggle_env

    state = SimpleNamespace(refuse=0, authorization=set())
    replies = {
        "GetDataset": json.dumps(
            {"ownerSlug": "msambare", "slug": "fer2013", "currentVersionNumber": 1}
        ).encode(),
        "DownloadDataFile": packed_csv(tmp_path / "served.csv"),
        "DownloadDataset": write_zip(tmp_path / "served.zip", small()).read_bytes(),
    }
    kinds = {"GetDataset": "json", "DownloadDataFile": "gzip", "DownloadDataset": "zip"}

    class Kaggle(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            state.authorization.add(self.headers["Authorization"])
            asked = self.path.rsplit("/", 1)[1]
            kind, content = kinds[asked], replies[asked]
            if state.refuse:
                kind, content = "json", json.dumps({"code": state.refuse, "message": "no"}).encode()
            self.send_response(state.refuse or 200)
            self.send_header("Content-Type", f"application/{kind}")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Kaggle)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, address)
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("kind", "place"), [("folders", "fer2013"), ("csv", "fer2013.csv")])
def test_real_client_against_a_stand_in_server(folder, kaggle, token, kind, place, capfd):
    lines = download_fer2013(folder, kind)
    assert left_in(folder) == ["README.md", place]
    assert len(read_layout(folder / place)) == 21
    assert "14 train, 7 test images" in lines[0]
    assert kaggle.authorization == {"Bearer KGAT_secret"}
    told = capfd.readouterr()
    assert "secret" not in told.out + told.err


def test_real_client_refused_or_without_a_network(folder, kaggle, token, monkeypatch):
    from kagglesdk import kaggle_env

    kaggle.refuse = 403
    with pytest.raises(DatasetError, match=r"403(?s:.*)accept the rules"):
        download_fer2013(folder, "csv")
    nowhere = "http://127.0.0.1:9"
    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, nowhere)
    with pytest.raises(DatasetError, match="no connection"):
        download_fer2013(folder)
    assert left_in(folder) == ["README.md"]
