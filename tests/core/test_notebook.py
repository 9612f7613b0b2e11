"""The example notebook runs from its first cell to its last, and is kept without outputs."""

import base64
import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "docs" / "example.ipynb"
NEEDED = ("nbformat", "nbclient", "ipykernel", "pandas", "matplotlib", "skimage")


@pytest.fixture(scope="module")
def nbformat():
    return pytest.importorskip("nbformat", reason="nbformat is not installed")


@pytest.fixture(scope="module")
def executed(nbformat, tmp_path_factory):
    """Return the notebook with the outputs of a kernel that starts in the project's folder."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    from nbclient import NotebookClient

    with pytest.MonkeyPatch.context() as patch:
        # what a kernel writes about itself stays out of the home folder
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        place = {"metadata": {"path": str(ROOT)}}
        return NotebookClient(notebook, timeout=120, resources=place).execute()


def outputs(notebook, source):
    """Return the outputs of the one cell that contains a piece of code."""
    (cell,) = [each for each in notebook.cells if source in each.source]
    return cell.outputs


def test_it_is_kept_without_outputs(nbformat):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}


def test_every_cell_runs_without_a_warning(executed):
    cells = [cell for cell in executed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    streams = [each for cell in cells for each in cell.outputs if each.output_type == "stream"]
    assert {each.name for each in streams} == {"stdout"}


def test_results_show_themselves(executed):
    (shown,) = outputs(executed, "recognizer.recognize(data.astronaut())\nfaces")
    assert set(shown.data) == {"text/plain", "text/html"}
    assert "<Recognition of photo (512x512): 1: happy" in shown.data["text/plain"]
    assert "data:image/jpeg;base64," in shown.data["text/html"]
    (shown,) = outputs(executed, "photos = [")
    assert shown.data["text/html"].count("<figure") == 4
    (shown,) = outputs(executed, "recognizer.explain")
    assert "data:image/png;base64," in shown.data["text/html"]
    (shown,) = outputs(executed, "plt.show()")
    picture = Image.open(io.BytesIO(base64.b64decode(shown.data["image/png"])))
    assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 10
