"""A batch over the photos of a test's own folder."""

import pytest
from batch_support import SignDetector, ThreadWorkers, write_photos
from model_folder import write_pair

from emotion.batch import BatchOutputs, BatchSettings, run_batch
from emotion.images.folders import PhotoFile, find_photos, is_photo_list


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("model") / "one").stem


@pytest.fixture
def batch(model, tmp_path):
    """Return a function that runs a batch over the photos in tmp_path/photos, or another source."""

    def run(workers=None, copies=None, tables=("t.csv",), source="photos", **options):
        calls = {name: options.pop(name) for name in ("on_progress", "on_photo") if name in options}
        usual = {"model": model, "make_detector": SignDetector, "photo_timeout_s": None}
        outputs = BatchOutputs(tuple(tmp_path / table for table in tables), copies)
        photos = source
        if isinstance(source, str):
            path = tmp_path / source
            photos = [PhotoFile(path, path.name)]
            if is_photo_list(str(path)):
                photos = find_photos(path, leave_out=[copies] if copies else [])
        settings = BatchSettings(**usual | options)
        return run_batch(photos, outputs, settings, workers or ThreadWorkers(), **calls)

    return run


@pytest.fixture
def folder(tmp_path):
    """Return a folder with three photos: 000.png, 001.png and 002.png."""
    write_photos(tmp_path / "photos", 3)
    return tmp_path / "photos"


@pytest.fixture
def table(tmp_path):
    return tmp_path / "t.csv"
