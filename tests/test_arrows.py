"""The arrows of the house: who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LAYERS = (
    {"labels", "errors", "files", "text", "progress"},
    {"images", "faces", "model"},
    {"detection", "quality", "rows", "drawing"},
    {"tables"},
    {"explain", "notebook"},
    {"recognizer"},
    {"video", "batch"},
    {"training"},
    {"cli", "web"},
)
SCRIPTS = ("app", "emotion_detector", "emotion_model_training")


MODULES = sorted((ROOT / "emotion").rglob("*.py"))


def level_of(room: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if room in layer)


def imported(path: Path, top_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    """Also, only training imports Keras at the top, and nothing TensorFlow but its conversions."""
    room = path.relative_to(ROOT / "emotion").parts[0].removesuffix(".py")
    for name in imported(path):
        parts = name.split(".")
        assert parts[0] != "tensorflow" or path.name == "conversion.py"
        if room != "__init__" and parts[0] == "emotion" and parts[1:2] not in ([], [room]):
            assert level_of(parts[1]) < level_of(room), f"{room} must not import {name}"
    at_the_top = {name.split(".")[0] for name in imported(path, top_only=True)}
    assert "keras" not in at_the_top or room == "training"
    assert "tensorflow" not in at_the_top


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_import_no_script(script):
    names = {name.split(".")[0] for name in imported(ROOT / f"{script}.py")}
    assert not names & (set(SCRIPTS) - {script})


DECODERS = ("cv2", "onnxruntime", "tensorflow", "keras")


@pytest.mark.parametrize(
    ("module", "others"),
    [
        ("emotion_model_training", ("tensorflow", "keras")),
        ("app", DECODERS),  # what decodes strangers' bytes is a process of its own
        ("emotion.web.photos.job", ("flask", "sqlalchemy", "numpy")),
        ("emotion.web.photos.reading", ("flask", "sqlalchemy", "tensorflow")),
        ("emotion.web.videos.job", ("flask", "sqlalchemy", "tensorflow")),
    ],
)
def test_a_process_imports_what_it_needs(module, others):
    code = f"import sys, {module}; sys.exit(bool(set({others}) & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
