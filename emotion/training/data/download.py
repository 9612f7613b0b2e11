"""Fetch FER2013 from Kaggle with its own client, or say exactly how to fetch it by hand."""

import errno
import logging
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from emotion.errors import DatasetError
from emotion.labels import EMOTIONS
from emotion.training.data.layouts import Dataset, read_layout

PART_FOLDER = ".download"
CSV_NAME = "fer2013.csv"
TRAINING_IMAGES = 28_709
REFUSED, NOT_FOUND = (401, 403), 404
CREDENTIAL_STEPS = (
    "sign in to Kaggle, open https://www.kaggle.com/settings and make an API token",
    "put it into the file ~/.kaggle/access_token, or into the environment as KAGGLE_API_TOKEN\n"
    "     (an older ~/.kaggle/kaggle.json will do as well)",
    "run: python3 run.py train download --kind {kind} --to {folder}",
)


@dataclass(frozen=True)
class Source:
    """One of the two forms in which Kaggle hands FER2013 out.

    Attributes:
        title: what it is, for messages.
        place: its name below the dataset folder.
        page: its address, for a person.
        files: what to ask for, the first that is there; "" is all of it.
        needed_bytes: room for the download and what is unpacked from it.
        steps: how to fetch it by hand.
    """

    title: str
    place: str
    page: str
    files: tuple[str, ...]
    needed_bytes: int
    steps: tuple[str, ...]


FOLDERS_HANDLE = "msambare/fer2013"
CSV_HANDLE = "challenges-in-representation-learning-facial-expression-recognition-challenge"
SOURCES = {
    "folders": Source(
        title="the folders of images",
        place="fer2013",
        page=f"https://www.kaggle.com/datasets/{FOLDERS_HANDLE}",
        files=("",),
        needed_bytes=500_000_000,
        steps=(
            "sign in to Kaggle and open {page}",
            "press Download, 'Download dataset as zip': the file is archive.zip (about 60 MB)",
            "put it, as it is, into {folder}/",
        ),
    ),
    "csv": Source(
        title="the csv of the challenge",
        place=CSV_NAME,
        page=f"https://www.kaggle.com/competitions/{CSV_HANDLE}",
        files=("fer2013.tar.gz", "icml_face_data.csv"),
        needed_bytes=1_000_000_000,
        steps=(
            "sign in to Kaggle, open {page}/rules and accept the rules",
            "open {page}/data and download fer2013.tar.gz (about 97 MB)",
            "unpack it with 'tar -xzf fer2013.tar.gz' and put fer2013.csv into {folder}/",
        ),
    ),
}
"""By the names that the command line gives them."""


def download_fer2013(folder: Path, kind: str = "folders", overwrite: bool = False) -> list[str]:
    """Fetch FER2013 with the user's Kaggle credentials, read it once, and put it into a folder.

    The credentials are found as kagglehub finds them: KAGGLE_API_TOKEN, or KAGGLE_USERNAME and
    KAGGLE_KEY, or ~/.kaggle/access_token, or ~/.kaggle/kaggle.json.

    Args:
        folder: where to put it; nothing appears there until all of it was fetched and read.
        kind: "folders" or "csv".
        overwrite: replace what was fetched before.

    Returns:
        Lines for a person: what there is now, and what to do next.

    Raises:
        DatasetError: it could not be fetched; the message ends in the steps to do it by hand.
    """
    source = SOURCES[kind]
    target = folder / source.place
    if target.exists() and not overwrite:
        raise DatasetError(f"{target} is there already: train on it, or remove it to fetch it anew")
    steps = _steps(kind, folder)
    client = _client(steps)
    with _telling_steps(source, steps), _part_folder(folder, source) as part:
        fetched = _fetch(client, source, part / "fetched")
        dataset = _verified(fetched)
        _put(fetched, target, part)
    return _done_lines(dataset, target)


def _client(steps: str) -> ModuleType:
    """Return kagglehub, ready to be asked.

    Raises:
        DatasetError: it is not installed, or the user has no credentials.
    """
    try:
        import kagglehub
        from kagglehub.config import get_kaggle_credentials
    except ImportError as error:
        raise DatasetError(
            f"expected the package kagglehub; it is not installed ({error}): "
            f"'python3 run.py setup' adds it\n{steps}"
        ) from error
    try:
        credentials = get_kaggle_credentials()
    except (ValueError, OSError) as error:
        raise DatasetError(
            f"expected Kaggle credentials that can be read; {error}\n{steps}"
        ) from error
    if not credentials:
        raise DatasetError(
            "expected Kaggle credentials; found none in KAGGLE_API_TOKEN, in KAGGLE_USERNAME and "
            f"KAGGLE_KEY, or in the folder ~/.kaggle\n{steps}"
        )
    logging.getLogger("kagglehub").setLevel(logging.WARNING)
    return kagglehub


@contextmanager
def _part_folder(folder: Path, source: Source) -> Iterator[Path]:
    """Give an empty folder on the same disk to work in, and remove it in the end.

    Raises:
        DatasetError: the disk has too little room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / PART_FOLDER
    shutil.rmtree(part, ignore_errors=True)  # of a download that was killed
    free = shutil.disk_usage(folder).free
    if free < source.needed_bytes:
        raise DatasetError(
            f"expected {source.needed_bytes / 1e6:,.0f} MB of free disk in {folder}; "
            f"it has {free / 1e6:,.0f} MB"
        )
    part.mkdir()
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _fetch(client: ModuleType, source: Source, folder: Path) -> Path:
    """Fetch a source into a new folder and return the folder or csv that it is."""
    for file in source.files[:-1]:
        try:
            return _unpacked(Path(_ask(client, source, file, folder)))
        except OSError as error:
            if _status(error) != NOT_FOUND:
                raise
    return _unpacked(Path(_ask(client, source, source.files[-1], folder)))


def _ask(client: ModuleType, source: Source, file: str, folder: Path) -> str:
    """Ask Kaggle for one file, or for all of them, and return the path of what came."""
    ask: Callable = client.dataset_download
    handle = FOLDERS_HANDLE
    if source.place == CSV_NAME:
        ask, handle = client.competition_download, CSV_HANDLE
    return ask(handle, path=file or None, output_dir=str(folder), force_download=True)


def _unpacked(path: Path) -> Path:
    """Return the csv inside a .tar.gz, or the path itself.

    Raises:
        DatasetError: the archive has no csv.
    """
    if not path.name.endswith(".tar.gz"):
        return path
    with tarfile.open(path) as archive:
        members = [member for member in archive if Path(member.name).name == CSV_NAME]
        if not members or (content := archive.extractfile(members[0])) is None:
            raise DatasetError(f"expected {CSV_NAME} inside {path.name}; it is not there")
        unpacked = path.with_name(CSV_NAME)
        with content, unpacked.open("wb") as file:
            shutil.copyfileobj(content, file)
    path.unlink()
    return unpacked


def _verified(fetched: Path) -> Dataset:
    """Return the dataset that was fetched, or raise where it is not FER2013."""
    dataset = read_layout(fetched)
    if "train" not in dataset.split_names() or sorted(dataset.class_names) != sorted(EMOTIONS):
        raise DatasetError(
            f"expected training images of the classes {', '.join(EMOTIONS)}; "
            f"received {len(dataset):,} images of {', '.join(dataset.class_names)}"
        )
    return dataset


def _put(fetched: Path, target: Path, part: Path) -> None:
    """Move what was fetched to its place; what was there before stays if that fails."""
    if fetched.is_dir():  # kagglehub's own mark of a finished download
        shutil.rmtree(fetched / ".complete", ignore_errors=True)
    before = part / "before"
    if target.exists():
        target.rename(before)
    try:
        fetched.rename(target)
    except OSError:
        if before.exists():
            before.rename(target)
        raise


def _done_lines(dataset: Dataset, target: Path) -> list[str]:
    """Return what there is now and what to do next, as lines for a person."""
    counts = ", ".join(
        f"{len(dataset.split(name)):,} {name.replace('_', ' ')}" for name in dataset.split_names()
    )
    training = len(dataset.split("train"))
    other = training != TRAINING_IMAGES
    return [
        f"Fetched FER2013 into {target}: {counts} images of {len(dataset.class_names)} classes",
        *([f"FER2013 has {TRAINING_IMAGES:,} training images, this copy {training:,}"] * other),
        f"See what is in it:  python3 run.py train inspect --dataset {target}",
        f"Train on it:        python3 run.py train --dataset {target}",
    ]


# What can go wrong


@contextmanager
def _telling_steps(source: Source, steps: str) -> Iterator[None]:
    """Turn what goes wrong into a sentence, followed by the steps to do it by hand."""
    from kagglehub.exceptions import DataCorruptionError, UnauthenticatedError

    try:
        yield
    except (OSError, UnauthenticatedError, DataCorruptionError, tarfile.TarError) as error:
        raise DatasetError(f"{_reason(error, source)}\n{steps}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(
            f"expected {source.title} from Kaggle; what came is damaged ({_first_line(error)})"
            f"\n{steps}"
        ) from error
    except DatasetError as error:
        raise DatasetError(f"{error}\n{steps}") from error


def _reason(error: Exception, source: Source) -> str:
    """Return what went wrong in a sentence."""
    status = _status(error)
    if status in REFUSED:
        return (
            f"expected to be let in by Kaggle; it refused ({status}): the credentials are not "
            f"valid, or the terms on {source.page} are not accepted yet"
        )
    if status:
        return f"expected {source.title} from Kaggle; it answered {_first_line(error)}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "expected room on the disk; it filled while downloading, and nothing was kept"
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"expected a folder that can be written to; {error.filename}: {error.strerror}"
    if _is_connection(error):
        return (
            f"expected to reach Kaggle; it cannot be reached ({type(error).__name__}): look at the "
            "network, or at the proxy in HTTPS_PROXY"
        )
    return f"expected {source.title} from Kaggle; it did not arrive ({_first_line(error)[:200]})"


def _status(error: Exception) -> int | None:
    """Return the HTTP status that an error of kagglehub carries, None without one."""
    return getattr(getattr(error, "response", None), "status_code", None)


def _is_connection(error: Exception) -> bool:
    """Tell whether the network failed; kagglehub hands the errors of requests on."""
    from requests.exceptions import ConnectionError as NoConnection
    from requests.exceptions import Timeout

    return isinstance(error, NoConnection | Timeout)


def _first_line(error: Exception) -> str:
    """Return the first line of an error's text, or its kind."""
    return next((line for line in str(error).splitlines() if line), type(error).__name__)


def _steps(kind: str, folder: Path) -> str:
    """Return how to fetch a source by hand, and how to let this command do it, in lines."""
    source = SOURCES[kind]
    path = folder / (CSV_NAME if source.place == CSV_NAME else "archive.zip")
    by_hand = (*source.steps, "run: python3 run.py train --dataset {path}")
    blocks = (("By hand:", by_hand), ("Or by this command:", CREDENTIAL_STEPS))
    lines = []
    for title, steps in blocks:
        lines += ["", title]
        for number, step in enumerate(steps, start=1):
            told = step.format(page=source.page, kind=kind, folder=folder, path=path)
            lines.append(f"  {number}. {told}")
    return "\n".join(lines)
