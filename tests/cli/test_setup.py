"""The set-up: run.py in a copy of its own, with a stand-in for pip; the requirement files."""

import ast
import os
import re
import subprocess
import sys
from importlib import metadata
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import run
from emotion.files import available_cpus

SCRIPT = Path(run.__file__)
ROOT = SCRIPT.parent
WHOLE, SERVING = ROOT / "requirements.txt", ROOT / "requirements-serve.txt"
LOCK = ROOT / "requirements.lock"
STAND_INS = dict.fromkeys("cv2 flask waitress PIL numpy onnxruntime tensorflow".split(), "") | {
    # pip itself is not copied into each environment, which takes seconds
    "sitecustomize": "import venv\nvenv.EnvBuilder._setup_pip = lambda *arguments: None\n",
    "pip": "import os, sys\n"
    "open(os.environ['CALLS'], 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
    "sys.exit('show' in sys.argv or 'FAILS' in os.environ)\n",
}


def bounds_of(path: Path) -> dict[str, SpecifierSet]:
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return {found.name: found.specifier for found in map(Requirement, filter(None, lines))}


def test_requirements_are_bounded_installed_and_serving_takes_a_part_of_them():
    whole, serving = map(bounds_of, (WHOLE, SERVING))
    serving[run.DESKTOP] = serving.pop(run.HEADLESS)
    assert {"flask", "onnxruntime", run.DESKTOP} <= set(serving) < set(whole) - {"tensorflow"}
    assert serving.items() <= whole.items()
    installed = {canonicalize_name(found.name): found.version for found in metadata.distributions()}
    installed.setdefault(run.DESKTOP, installed.get(run.HEADLESS))  # each stands for the other
    for name, bounds in whole.items():
        assert sorted(bound.operator for bound in bounds) == ["<", ">="], name
        assert installed[name] in bounds, name


def test_the_lock_pins_what_serving_needs_by_hashes_and_names_no_place():
    lines = [line for line in LOCK.read_text().splitlines() if not line.startswith("#")]
    pins = dict(line.removesuffix(" \\").split("==") for line in lines if line[0] != " ")
    wanted = bounds_of(SERVING) | {name: bounds_of(WHOLE)[name] for name in ("av", "pillow-heif")}
    for name, bounds in wanted.items():
        assert pins[canonicalize_name(name)] in bounds, name
    for before, line in pairwise(lines):
        assert re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}( \\)?|[a-z0-9-]+==[0-9.]+ \\", line)
        assert before[0] == " " or line[0] == " ", f"{before} has no hash"


def test_the_container_copies_what_it_is_sent_and_is_no_administrator():
    text = (ROOT / "Dockerfile").read_text()
    copied = [name for words in re.findall("^COPY (.*) ", text, re.M) for name in words.split()]
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"]
    assert sorted(copied) == sorted(sent)
    assert all((ROOT / name).exists() for name in copied)
    assert "--require-hashes -r requirements.lock" in text
    assert text.index("\nUSER emotion") < text.index("\nCMD ")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Return a folder that holds run.py and stand-ins; its pip only writes down its call."""
    folder, stand_ins = tmp_path / "my project", tmp_path / "stand-ins"
    folder.mkdir()
    stand_ins.mkdir()
    for name, text in STAND_INS.items():
        (stand_ins / f"{name}.py").write_text(text)
    name = "\nDESKTOP_LIBRARIES = "
    text = SCRIPT.read_text().replace(name, f"{name}os.environ['LIBRARIES'].split()\n_UNUSED = ")
    (folder / "run.py").write_text(text)
    (folder / "requirements.txt").write_text("opencv-python>=4,<5  # why\nflask>=3,<4\n")
    (folder / "app.py").write_text("import sys\nprint(sys.argv[1:])\nsys.exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", str(stand_ins))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    return folder


def start(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    line = [sys.executable, project / "run.py", *arguments]
    environment = os.environ | {"LIBRARIES": ""} | variables
    return subprocess.run(line, cwd=project.parent, env=environment, capture_output=True, text=True)


def test_only_a_known_command_installs_and_only_when_something_changed(project):
    for line, code, stream in (("", 2, "stderr"), ("fly", 2, "stderr"), ("--help", 0, "stdout")):
        done = start(project, *line.split())
        assert done.returncode == code
        assert all(f"\n  {name} " in getattr(done, stream) for name in run.COMMANDS)
        assert not (project / ".venv").exists()
    calls, installed = project.parent / "calls", project / ".venv" / "requirements-installed.txt"
    first = start(project, "app", "--port", "1")
    assert (first.returncode, first.stdout) == (7, "['--port', '1']\n"), first.stderr
    assert "install" in calls.read_text()
    assert "opencv-python>=4,<5" in installed.read_text()
    calls.unlink()
    again = start(project, "app")
    assert (again.returncode, again.stdout, again.stderr) == (7, "[]\n", "")
    assert not calls.exists()

    switched = start(project, "setup", LIBRARIES="libno.so.9")
    assert (switched.returncode, "libno.so.9" in switched.stderr) == (0, True)
    assert "opencv-python-headless>=4,<5" in installed.read_text()

    (project / "requirements.txt").write_text("opencv-python>=5,<6\n")
    failed = start(project, "app", FAILS="1")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("run.py: pip")
    (project / ".venv" / "broken").touch()
    assert start(project, "app").returncode == 7
    assert not (project / ".venv" / "broken").exists()


def test_what_is_not_ours_is_left_and_told_in_one_line(project):
    environment = project / ".venv"
    environment.mkdir()
    (environment / "mine").touch()
    done = start(project, "app")
    assert (done.returncode, "move it away" in done.stderr.splitlines()[-1]) == (1, True)
    (environment / "mine").unlink()
    environment.rmdir()
    environment.symlink_to(project / "nowhere" / "else")
    done = start(project, "app")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert done.stderr.splitlines()[-1].startswith("run.py: ")


def test_the_supported_pythons_are_the_same_everywhere(monkeypatch):
    oldest, newest = run.PYTHON_VERSIONS[0], run.PYTHON_VERSIONS[-1]
    assert f"FROM python:{oldest}-slim" in (ROOT / "Dockerfile").read_text()
    assert f"Python {oldest} to {newest}" in WHOLE.read_text()
    monkeypatch.setattr(run, "python_version", lambda python: "3.9")
    with pytest.raises(SystemExit, match=run.SUPPORTED):
        run.make_environment()
    # an older Python can read this file, to say so
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))


def test_processors_of_control_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    own = tmp_path / "own"
    (tmp_path / "a" / "b").mkdir(parents=True)
    for group, whole, part, expected in (
        ("0::/", "max 100000", "", 6),
        ("0::/", "150000 100000", "", 2),
        ("0::/", "100000 0", "", 6),
        ("0::/a/b", "300000 100000", "nonsense", 3),
        ("1:name=systemd:/", "500000 100000", "", 5),
    ):
        own.write_text(f"3:cpuset:/elsewhere\n{group}\n")
        (tmp_path / "cpu.max").write_text(f"{whole}\n")
        (tmp_path / "a" / "b" / "cpu.max").write_text(f"{part}\n")
        assert available_cpus(tmp_path, own) == expected
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_cpus(tmp_path, tmp_path / "none") == 8
