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
KERAS_ROOMS = ("training",)


def modules() -> list[Path]:
    return sorted((ROOT / "emotion").rglob("*.py"))


def room_of(path: Path) -> str:
    """Return the room of a file: the module, or the folder below `emotion`."""
    return path.relative_to(ROOT / "emotion").parts[0].removesuffix(".py")


def level_of(room: str) -> int:
    return next(number for number, layer in enumerate(LAYERS) if room in layer)


def imported(path: Path, top_only: bool = False) -> set[str]:
    """Return the full names of all modules that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_only else ast.walk(tree)
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    room = room_of(path)
    if room == "__init__":
        pytest.skip("the package itself imports nothing")
    for name in imported(path):
        parts = name.split(".")
        if parts[0] != "emotion" or len(parts) < 2 or parts[1] == room:
            continue
        assert level_of(parts[1]) < level_of(room), f"{room} must not import {name}"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_training_imports_keras_at_the_top(path):
    heavy = {name.split(".")[0] for name in imported(path, top_only=True)} & {"keras", "tensorflow"}
    assert not heavy or room_of(path) in KERAS_ROOMS


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_keras_alone_no_tensorflow_api(path):
    assert not any(name.split(".")[0] == "tensorflow" for name in imported(path))


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_import_no_script(script):
    names = {name.split(".")[0] for name in imported(ROOT / f"{script}.py")}
    assert not names & (set(SCRIPTS) - {script})


@pytest.mark.parametrize("module", ["emotion", "emotion.recognizer", "emotion_model_training"])
def test_importing_loads_no_tensorflow(module):
    code = f"import sys, {module}; sys.exit(bool({{'tensorflow', 'keras'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("module", ["models.offered", "photos.pictures", "memory"])
def test_what_the_video_process_takes_from_the_web_loads_no_flask(module):
    code = (
        f"import sys, emotion.web.{module}; "
        "sys.exit(bool({'flask', 'sqlalchemy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
