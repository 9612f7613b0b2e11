import inspect
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import emotion
from emotion.files import models_folder
from emotion.recognizer import DEFAULT_MODEL

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
TYPED = "__init__ recognizer notebook faces rows images/sources errors labels".split()
INTERNAL = {"Recognizer.look", "Recognizer.detect"}  # what other rooms use
HEAVY = {"cv2", "PIL", "onnxruntime", "tensorflow", "keras", "pandas", "flask", "av", "matplotlib"}


def run(*arguments, **options):
    command = [sys.executable, *arguments]
    return subprocess.run(command, **{"cwd": ROOT, "capture_output": True, "text": True} | options)


def public_names():
    """Yield every public name as the page writes it."""
    for name in emotion.__all__:
        yield name
        thing = getattr(emotion, name)
        if not inspect.isclass(thing) or issubclass(thing, Exception):
            continue
        members = {each for each in vars(thing) if not each.startswith("_")}
        members |= {field.name for field in fields(thing)} if is_dataclass(thing) else set()
        for member in {f"{name}.{member}" for member in members} - INTERNAL:
            function = getattr(thing, member.partition(".")[2], None)
            yield member + (signature_of(function) if callable(function) else "")


def signature_of(function):
    found = inspect.signature(function)
    bare = [each.replace(annotation=each.empty) for each in found.parameters.values()]
    shown = str(found.replace(parameters=bare, return_annotation=found.empty))
    shown = re.sub(
        rf"\w+\('{re.escape(str(ROOT))}/(.*?)'\)", r"'\1'", shown.replace("(self, ", "(")
    )
    return shown.replace("(self)", "()").replace("'", '"')


def test_the_page_has_every_public_name_with_its_signature():
    entries = re.findall(r"^#{3,4} `(.+)`$", PAGE, re.MULTILINE)
    assert sorted(entries) == sorted(public_names())
    namespace = {}
    exec("from emotion import *", namespace)
    assert set(emotion.__all__) <= set(namespace) & set(dir(emotion))
    with pytest.raises(AttributeError, match="recognise"):
        emotion.recognise  # noqa: B018


def test_importing_loads_no_more_than_is_needed():
    light = "import sys, emotion; emotion.EMOTIONS; emotion.Face; emotion.EmotionError"
    loaded = "sys.stdout.write(' '.join(sys.modules) + '\\n')"
    ran = run("-c", f"{light}; {loaded}; from emotion import Recognizer; {loaded}")
    assert ran.returncode == 0, ran.stderr
    package, recognizer = (set(line.split()) for line in ran.stdout.splitlines())
    assert not (HEAVY | {"numpy"}) & package
    assert not (HEAVY - {"cv2", "PIL"}) & recognizer


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_examples_of_the_page_run(tmp_path, astronaut):
    (tmp_path / "photos").mkdir()
    Image.fromarray(astronaut).save(tmp_path / "photo.jpg")
    for name in ("a", "b"):
        Image.fromarray(astronaut[::2, ::2]).save(tmp_path / "photos" / f"{name}.jpg")
    (tmp_path / "photos" / "c.jpg").write_text("no photo")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(tmp_path / "photo.jpg", "photo.jpg")
    # the recipe for threads raises for the damaged photo, as it should; here it is mended first
    whole = "import shutil; shutil.copy('photo.jpg', 'photos/c.jpg')\n"
    parts = [(whole if "ThreadPool" in part else "") + part for part in blocks("python")]
    (tmp_path / "examples.py").write_text("\n".join(parts), encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    ran = run("-W", "error", "examples.py", cwd=tmp_path, env=environment)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("happy 0.9")
    assert "problem" in (tmp_path / "emotions.csv").read_text().splitlines()[0]
    assert np.asarray(Image.open(tmp_path / "boxes.jpg")).shape == (512, 512, 3)


def test_the_notebook_is_kept_without_outputs_and_runs_without_a_warning(tmp_path, monkeypatch):
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


USAGE = """\
from pathlib import Path
from typing import Any, assert_type

import numpy as np

from emotion import EMOTIONS, Face, Recognition, Recognitions, Recognizer

recognizer: Recognizer = Recognizer.load("a")
assert_type(recognizer.recognize("a.jpg"), Recognition)
assert_type(recognizer.recognize(np.zeros((9, 9, 3), np.uint8)), Recognition)
assert_type(recognizer.recognize(Path(".").glob("*.jpg"), errors="keep"), Recognitions)
found = recognizer.recognize(["a.jpg", Path("b.jpg"), b"bytes"])
assert_type(found[0].to_dict(), dict[str, Any])
assert_type([face for faces in found for face in faces], list[Face])
assert_type(recognizer.explain("a.jpg", face=2, emotion=EMOTIONS[0]).before, float)
Recognizer.load(3)  # wrong
recognizer.recognize(3)  # wrong
recognizer.recognize("a.jpg", errors="ignore")  # wrong
recognizer.recognize("a.jpg", "keep")  # wrong
recognizer.recognize("a.jpg").emotion  # wrong
"""


def test_the_types_hold_for_users_and_in_the_public_modules(tmp_path, request):
    pytest.importorskip("mypy", reason="mypy is not installed")
    examples = "\n".join(blocks("python") + blocks("py"))
    (tmp_path / "examples.py").write_text(examples, encoding="utf-8")
    (tmp_path / "usage.py").write_text(USAGE, encoding="utf-8")
    cache = request.config.cache.mkdir("mypy")
    ran = run(
        *f"-m mypy --strict --config-file= --cache-dir={cache} --no-color-output".split(),
        *"--follow-imports=silent --no-error-summary examples.py usage.py".split(),
        *(str(ROOT / "emotion" / f"{name}.py") for name in TYPED),
        cwd=tmp_path,  # so that errors in the cache have names that stay
        env=os.environ | {"MYPYPATH": str(ROOT)},
    )
    told = [line.split(": error:")[0] for line in ran.stdout.splitlines() if ": note:" not in line]
    wrong = [n for n, line in enumerate(USAGE.splitlines(), 1) if line.endswith("# wrong")]
    assert told == [f"usage.py:{number}" for number in wrong], ran.stdout
    assert not ran.stderr


def test_the_package_has_its_types_every_room_but_app_and_training_and_models(tmp_path):
    assert (ROOT / "emotion" / "py.typed").read_bytes() == b""
    packaging = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    inits = (ROOT / "emotion").rglob("__init__.py")
    rooms = {path.parent.relative_to(ROOT).as_posix().replace("/", ".") for path in inits}
    rooms = {room for room in rooms if room.split(".")[1:2] not in (["web"], ["training"])}
    assert set(packaging["tool"]["setuptools"]["packages"]) == rooms | {"emotion.models"}
    texts = [(ROOT / name).read_text() for name in ("requirements.txt", "requirements-serve.txt")]
    lines = {re.sub(r"\s*#.*", "", line) for text in texts for line in text.splitlines()}
    project = packaging["project"]
    asked = set(project["dependencies"]).union(*project["optional-dependencies"].values())
    assert len(asked) > 5
    assert asked <= lines
    assert DEFAULT_MODEL == ROOT / "models" / "detection_model"
    inside = tmp_path / "emotion" / "models"  # of an installed package
    assert models_folder(inside.parent) == tmp_path / "models"
    inside.mkdir(parents=True)
    assert models_folder(inside.parent) == inside
