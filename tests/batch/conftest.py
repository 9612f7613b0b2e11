"""A batch over the photos of a test's own folder."""

from pathlib import Path

import pytest
from batch_support import (
    SignDetector,
    ThreadWorkers,
    write_photos,
)
from model_folder import write_pair

from emotion.batch import BatchOutputs, BatchSettings, run_batch
from emotion.images.folders import PhotoFile, find_photos, is_photo_list

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """Return the stem of a model that runs."""
    return write_pair(tmp_path_factory.mktemp("model") / "one").stem


@pytest.fixture
def batch(model, tmp_path):
    """Return a function that runs a batch over the photos in tmp_path/photos, or another source."""

    def run(workers=None, copies=None, tables=("t.csv",), source="photos", **options):
        calls = {name: options.pop(name) for name in ("on_progress", "on_photo") if name in options}
        usual = {"model": model, "make_detector": SignDetector, "photo_timeout_s": None}
        settings = BatchSettings(**usual | options)
        outputs = BatchOutputs(tuple(tmp_path / table for table in tables), copies)
        path = tmp_path / source
        if is_photo_list(str(path)):
            photos = find_photos(path, leave_out=[copies] if copies else [])
        else:
            photos = [PhotoFile(path, path.name)]
        return run_batch(photos, outputs, settings, workers or ThreadWorkers(), **calls)

    return run


@pytest.fixture
def folder(tmp_path):
    """Return a folder with three photos."""
    return write_photos(tmp_path / "photos", 3)
