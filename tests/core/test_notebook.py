"""The example notebook runs from its first cell to its last, and is kept without outputs."""

import base64
import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("nbformat", "nbclient", "ipykernel", "pandas", "matplotlib", "skimage")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_it_is_kept_without_outputs_and_runs_without_a_warning(tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(ROOT / "docs" / "example.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.outputs or cell.execution_count for cell in code_cells(notebook))
    assert set(notebook.metadata) == {"kernelspec", "language_info"}

    # what a kernel writes about itself stays out of the home folder
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    place = {"metadata": {"path": str(ROOT)}}
    executed = NotebookClient(notebook, timeout=120, resources=place).execute()
    cells = code_cells(executed)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    streams = [each for cell in cells for each in cell.outputs if each.output_type == "stream"]
    assert {each.name for each in streams} == {"stdout"}

    def shown_by(source):
        """Return what the one cell with a piece of code shows."""
        (cell,) = [cell for cell in cells if source in cell.source]
        return cell.outputs[0].data

    shown = shown_by("recognizer.recognize(data.astronaut())\nfaces")
    assert "<Recognition of photo (512x512): 1: happy" in shown["text/plain"]
    assert "data:image/jpeg;base64," in shown["text/html"]
    assert shown_by("photos = [")["text/html"].count("<figure") == 4
    assert "data:image/png;base64," in shown_by("recognizer.explain")["text/html"]
    picture = Image.open(io.BytesIO(base64.b64decode(shown_by("plt.show()")["image/png"])))
    assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 10
