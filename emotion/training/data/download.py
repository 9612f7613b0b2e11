"""Fetch FER2013 from Kaggle with kagglehub, or say how to fetch it by hand."""

import logging
import shutil
import tarfile
from pathlib import Path

from emotion.errors import DatasetError
from emotion.files import rename_all
from emotion.labels import EMOTIONS
from emotion.text import first_line, size
from emotion.training.data.layouts import read_layout

FOLDERS_HANDLE = "msambare/fer2013"
CSV_HANDLE = "challenges-in-representation-learning-facial-expression-recognition-challenge"
PAGES = {
    "folders": f"https://www.kaggle.com/datasets/{FOLDERS_HANDLE}",
    "csv": f"https://www.kaggle.com/competitions/{CSV_HANDLE}",
}
TRAINING_IMAGES = 28_709
GET_ZIP = "press Download, then 'Download dataset as zip' (about 60 MB)"
GET_CSV = (
    "accept the rules, fetch fer2013.tar.gz (about 97 MB) from /data, and unpack it with "
    "'tar -xzf fer2013.tar.gz'"
)
KINDS = {  # what it becomes, the bytes needed; by hand: what to get from the page, and its name
    "folders": ("fer2013", 500_000_000, GET_ZIP, "archive.zip"),
    "csv": ("fer2013.csv", 1_000_000_000, GET_CSV, "fer2013.csv"),
}
STEPS = """
By hand:
  1. sign in to Kaggle and open {page}
  2. {get}
  3. put {name} into {folder}/
  4. run: python3 run.py train --dataset {folder}/{name}

Or with this command:
  1. sign in to Kaggle, open https://www.kaggle.com/settings and make an API token
  2. put it into the file ~/.kaggle/access_token, or into the variable KAGGLE_API_TOKEN
     (an older ~/.kaggle/kaggle.json works too)
  3. run: python3 run.py train download --kind {kind} --to {folder}"""


def download_fer2013(folder: Path, kind: str = "folders", overwrite: bool = False) -> list[str]:
    """Fetch FER2013 with the user's Kaggle credentials, as "folders" of images or as the "csv".

    It appears only once all of it was read. Returns lines to print: what there is now, and what to
    do next. A DatasetError ends with the steps to do it by hand.
    """
    place, needed, get, name = KINDS[kind]
    target, part = folder / place, folder / ".download"
    if target.exists() and not overwrite:
        raise DatasetError(f"{target} exists: train on it, or fetch it again with --overwrite")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)  # left by a download that was killed
        if (free := shutil.disk_usage(folder).free) < needed:
            raise DatasetError(f"expected {size(needed)} free in {folder}; received {size(free)}")
        part.mkdir()
        fetched = _fetch(kind, part / "fetched")
        dataset = read_layout(fetched)
        counts = {split: len(dataset.split(split)) for split in dataset.split_names()}
        if "train" not in counts or sorted(dataset.class_names) != sorted(EMOTIONS):
            raise DatasetError(
                f"expected training images of the classes {', '.join(EMOTIONS)}; received "
                f"{len(dataset):,} images of {', '.join(dataset.class_names)}"
            )
        replaced = [(target, part / "before")] if target.exists() else []
        rename_all([*replaced, (fetched, target)])
    except Exception as error:  # kagglehub passes on what requests, zipfile and tarfile raise
        steps = STEPS.format(page=PAGES[kind], get=get, name=name, folder=folder, kind=kind)
        raise DatasetError(f"{_reason(error, kind)}\n{steps}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    listed = ", ".join(f"{count:,} {split.replace('_', ' ')}" for split, count in counts.items())
    fewer = f"FER2013 has {TRAINING_IMAGES:,} training images, this copy {counts['train']:,}"
    return [
        f"Fetched FER2013 into {target}: {listed} images of {len(EMOTIONS)} classes",
        *([fewer] if counts["train"] != TRAINING_IMAGES else []),
        f"See what is in it:  python3 run.py train inspect --dataset {target}",
        f"Train on it:        python3 run.py train --dataset {target}",
    ]


def _fetch(kind: str, folder: Path) -> Path:
    """Fetch one kind into a new folder; return the folder of images or the csv."""
    import kagglehub
    from kagglehub.config import get_kaggle_credentials

    if not get_kaggle_credentials():
        places = "KAGGLE_API_TOKEN, KAGGLE_USERNAME and KAGGLE_KEY, or the folder ~/.kaggle"
        raise DatasetError(f"expected Kaggle credentials; found none in {places}")
    logging.getLogger("kagglehub").setLevel(logging.WARNING)
    where = {"output_dir": str(folder), "force_download": True}
    if kind == "folders":
        path = Path(kagglehub.dataset_download(FOLDERS_HANDLE, **where))
        shutil.rmtree(path / ".complete", ignore_errors=True)  # kagglehub's mark that it finished
        return path
    try:
        path = Path(kagglehub.competition_download(CSV_HANDLE, path="fer2013.tar.gz", **where))
    except OSError as error:
        if _status(error) != 404:
            raise
        return Path(kagglehub.competition_download(CSV_HANDLE, path="icml_face_data.csv", **where))
    with tarfile.open(path) as archive:
        for member in archive:
            if Path(member.name).name == "fer2013.csv" and member.isfile():
                member.name = "fer2013.csv"
                archive.extract(member, folder, filter="data")
                return folder / "fer2013.csv"
    raise DatasetError(f"expected fer2013.csv inside {path.name}; it is not there")


def _reason(error: Exception, kind: str) -> str:
    if isinstance(error, DatasetError):
        return str(error)
    if isinstance(error, ImportError):
        return f"expected the package kagglehub ({error}): 'python3 run.py setup' adds it"
    if (status := _status(error)) in (401, 403):
        why = f"wrong credentials, or the terms on {PAGES[kind]} are not accepted yet"
        return f"expected access to FER2013 on Kaggle; it was refused ({status}): {why}"
    if not status and type(error).__module__.startswith("requests"):
        error = f"no connection ({type(error).__name__}): check the network, or HTTPS_PROXY"
    return f"expected FER2013 from Kaggle; received: {first_line(error)[:200]}; nothing was kept"


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)
