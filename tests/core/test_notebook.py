"""The example notebook runs from its first cell to its last, and is kept without outputs."""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_it_is_kept_without_outputs_and_runs_without_a_warning(tmp_path, monkeypatch):
    needed = ("nbformat", "nbclient", "ipykernel", "pandas", "matplotlib", "skimage")
    nbformat, nbclient, *_ = map(pytest.importorskip, needed)
    notebook = nbformat.read(ROOT / "docs" / "example.ipynb", as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}

    # what a kernel writes about itself stays out of the home folder
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    place = {"metadata": {"path": str(ROOT)}}
    nbclient.NotebookClient(notebook, timeout=120, resources=place).execute()
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    streams = [each for cell in cells for each in cell.outputs if each.output_type == "stream"]
    assert {each.name for each in streams} == {"stdout"}
    for source, kind, shown in (
        ("recognizer.recognize(data.astronaut())\nfaces", "text/plain", "(512x512): 1: happy"),
        ("recognizer.recognize(data.astronaut())\nfaces", "text/html", "data:image/jpeg;base64,"),
        ("photos = [", "text/html", "<figure"),
        ("recognizer.explain", "text/html", "data:image/png;base64,"),
        ("plt.show()", "image/png", "iVBOR"),
    ):
        (cell,) = [cell for cell in cells if source in cell.source]
        assert shown in cell.outputs[0].data[kind]
