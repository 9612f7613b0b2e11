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

CREDENTIALS = (
    "KAGGLE_API_TOKEN KAGGLE_USERNAME KAGGLE_KEY KAGGLE_CONFIG_DIR KAGGLE_API_ENVIRONMENT "
    "KAGGLE_KERNEL_RUN_TYPE HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy"
).split()


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """Leave no credentials, no proxy and no home folder of the person who runs the tests."""
    for name in CREDENTIALS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(
        "kagglehub.config.DEFAULT_KAGGLE_CREDENTIALS_FOLDER", str(tmp_path / "home/.kaggle")
    )
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


def packed_csv(path: Path, name: str = "fer2013/fer2013.csv") -> Path:
    """Write a .tar.gz as the challenge hands it out."""
    csv = write_csv(path.with_suffix(".csv"), small())
    with tarfile.open(path, "w:gz") as archive:
        archive.add(csv, name)
        readme = tarfile.TarInfo("fer2013/README")
        readme.size = 5
        archive.addfile(readme, io.BytesIO(b"hello"))
    csv.unlink()
    return path


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
        (place if place.suffix == "" else place.parent).mkdir(parents=True, exist_ok=True)
        raise error

    return act


def unzip_small(place: Path):
    source = write_zip(place.with_name("data.zip"), small())
    with zipfile.ZipFile(source) as archive:
        archive.extractall(place)
    (place / ".complete" / "datasets").mkdir(parents=True)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("kind", "steps"),
    [
        ("folders", ("archive.zip", "train --dataset {0}/archive.zip")),
        ("csv", ("tar -xzf fer2013.tar.gz", "train --dataset {0}/fer2013.csv")),
    ],
)
def test_without_credentials_the_steps_are_told(folder, kind, steps):
    with pytest.raises(DatasetError) as caught:
        download_fer2013(folder, kind)
    first, _, others = str(caught.value).partition("\n")
    assert "credentials" in first
    for step in (*steps, PAGES[kind], "KAGGLE_API_TOKEN"):
        assert step.format(folder) in others
    assert left_in(folder) == ["README.md"]


def test_without_kagglehub_the_steps_are_told(folder, monkeypatch, token):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(DatasetError, match=r"run.py setup(?s:.*)By hand"):
        download_fer2013(folder)


def test_damaged_credentials_are_a_sentence(folder, tmp_path):
    path = tmp_path / "home/.kaggle/kaggle.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(DatasetError, match=r"kaggle.json(?s:.*)By hand"):
        download_fer2013(folder)


@pytest.mark.parametrize(
    "variables",
    [{"KAGGLE_API_TOKEN": "t"}, {"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "k"}],
)
def test_folders_are_put_in_place(folder, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
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
        lines = place.read_text().splitlines()
        swapped = [",".join(row.split(",")[n] for n in (0, 2, 1)) for row in lines[1:]]
        place.write_text("\n".join(["emotion, Usage, pixels", *swapped]))

    calls = answer(monkeypatch, "competition_download", act)
    download_fer2013(folder, "csv")
    assert [file for _, file in calls] == ["fer2013.tar.gz", "icml_face_data.csv"]
    assert len(read_layout(folder / "fer2013.csv")) == 21


FULL = OSError(errno.ENOSPC, "No space left on device", "x")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (refusal(401), "(401)"),
        (refusal(403), "https://www.kaggle.com/datasets/msambare/fer2013"),
        (refusal(500), "500"),
        (requests.exceptions.ConnectionError("Name or service not known"), "connection"),
        (requests.exceptions.ReadTimeout("slow"), "connection"),
        (FULL, "No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x"),
        (kagglehub.exceptions.DataCorruptionError("MD5"), "MD5"),
        (kagglehub.exceptions.UnauthenticatedError(), "not authenticated"),
        (ValueError("Unsupported archive type."), "Unsupported archive"),
        (zipfile.BadZipFile("no"), "no"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_whatever_goes_wrong_is_a_sentence_and_steps(folder, monkeypatch, token, error, sentence):
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


def test_full_disk_is_told_before(folder, monkeypatch, token):
    monkeypatch.setattr(
        download.shutil, "disk_usage", lambda path: SimpleNamespace(free=20_000_000)
    )
    calls = answer(monkeypatch, "dataset_download", unzip_small)
    with pytest.raises(DatasetError, match=r"500.* MB .*20.* MB"):
        download_fer2013(folder)
    assert not calls


def test_what_is_there_stays_unless_told(folder, monkeypatch, token):
    (folder / "fer2013").mkdir()
    (folder / "fer2013" / "mine.txt").write_text("mine")
    calls = answer(monkeypatch, "dataset_download", unzip_small)
    with pytest.raises(DatasetError, match="--overwrite"):
        download_fer2013(folder)
    assert not calls
    answer(monkeypatch, "dataset_download", raising(refusal(403)))
    with pytest.raises(DatasetError, match="403"):
        download_fer2013(folder, overwrite=True)
    assert (folder / "fer2013" / "mine.txt").exists(), "a failed download replaces nothing"
    answer(monkeypatch, "dataset_download", unzip_small)
    download_fer2013(folder, overwrite=True)
    assert left_in(folder / "fer2013") == ["test", "train"]


# A stand-in for Kaggle itself: the real client talks to it over HTTP


@pytest.fixture
def kaggle(tmp_path, monkeypatch):
    """Serve what Kaggle serves, on loopback; `refuse` sets a status to refuse with."""
    from kagglesdk import kaggle_env

    archive = write_zip(tmp_path / "served.zip", small())
    state = SimpleNamespace(refuse=0, asked=[], authorization=set())

    class Kaggle(BaseHTTPRequestHandler):
        def do_POST(self):
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append((self.path.rsplit("/", 1)[1], asked))
            state.authorization.add(self.headers["Authorization"])
            if state.refuse:
                error = {"code": state.refuse, "message": "no"}
                self.reply(state.refuse, "application/json", json.dumps(error).encode())
            elif self.path.endswith("GetDataset"):
                found = {"ownerSlug": "msambare", "slug": "fer2013", "currentVersionNumber": 1}
                self.reply(200, "application/json", json.dumps(found).encode())
            elif self.path.endswith("DownloadDataFile"):
                content = packed_csv(tmp_path / "served.tar.gz").read_bytes()
                self.reply(200, "application/gzip", content)
            else:
                self.reply(200, "application/zip", archive.read_bytes())

        def reply(self, status, kind, content):
            self.send_response(status)
            self.send_header("Content-Type", kind)
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
