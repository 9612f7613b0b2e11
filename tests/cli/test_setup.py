"""The set-up: run.py in a copy of its own, with a stand-in for pip; the requirement files."""

import ast
import os
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import run
from emotion.files import available_cpus

ROOT = Path(run.__file__).parent
WHOLE, SERVING = ROOT / "requirements.txt", ROOT / "requirements-serve.txt"


def read_requirements(path: Path) -> dict[str, Requirement]:
    """Return the requirements of a file by name."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return {found.name: found for found in map(Requirement, filter(None, lines))}


def test_requirements_are_bounded_installed_and_serving_takes_a_part_of_them():
    whole, serving = read_requirements(WHOLE), read_requirements(SERVING)
    serving[run.DESKTOP] = serving.pop(run.HEADLESS)
    assert {"flask", "onnxruntime", run.DESKTOP} <= set(serving) < set(whole) - {"tensorflow"}
    for name, requirement in whole.items():
        bounds = requirement.specifier
        assert sorted(bound.operator for bound in bounds) == ["<", ">="], name
        assert serving.get(name, requirement).specifier == bounds, name
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            assert name == run.DESKTOP
            version = metadata.version(run.HEADLESS)  # each stands for the other
        assert Version(version) in bounds, name


def test_the_container_copies_what_it_is_sent_and_is_no_administrator():
    lines = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    copied = [name for line in lines if line[:1] == ["COPY"] for name in line[1:-1]]
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"]
    assert sorted(copied) == sorted(sent)
    assert all((ROOT / name).exists() for name in copied)
    text = (ROOT / "Dockerfile").read_text()
    assert "requirements-serve.txt" in text
    assert text.index("\nUSER emotion") < text.index("\nCMD ")


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Return a folder that holds run.py; its pip only writes down its call, and beside that is what
    run.py imports to see whether it loads.
    """
    folder = tmp_path / "my project"
    folder.mkdir()
    shutil.copy(run.__file__, folder)
    (folder / "requirements.txt").write_text("opencv-python>=4,<5  # why\nflask>=3,<4\n")
    (folder / "app.py").write_text("import sys\nprint(sys.argv[1:])\nsys.exit(7)\n")
    stand_ins = tmp_path / "stand-ins"
    stand_ins.mkdir()
    for name in "cv2 flask waitress PIL numpy onnxruntime tensorflow".split():
        (stand_ins / f"{name}.py").touch()
    # pip itself is not copied into each environment, which takes seconds
    (stand_ins / "sitecustomize.py").write_text(
        "import venv\nvenv.EnvBuilder._setup_pip = lambda *arguments: None\n"
    )
    (stand_ins / "pip.py").write_text(
        "import os, sys\n"
        f"open({str(tmp_path / 'calls')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
        "sys.exit('show' in sys.argv or 'FAILS' in os.environ)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(stand_ins))
    use_libraries(folder)
    return folder


def use_libraries(project: Path, *names: str) -> None:
    """Let a project's run.py look for these system libraries."""
    path = project / "run.py"
    head, _, rest = path.read_text().partition("DESKTOP_LIBRARIES = ")
    path.write_text(f"{head}DESKTOP_LIBRARIES = {names!r}\n_UNUSED = {rest}")


def start(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    line, environment = [sys.executable, project / "run.py", *arguments], os.environ | variables
    return subprocess.run(line, cwd=project.parent, env=environment, capture_output=True, text=True)


def test_without_a_known_command_nothing_is_installed(project):
    for line, code, stream in (("", 2, "stderr"), ("fly", 2, "stderr"), ("--help", 0, "stdout")):
        done = start(project, *line.split())
        assert done.returncode == code
        assert all(f"\n  {name} " in getattr(done, stream) for name in run.COMMANDS)
        assert not (project / ".venv").exists()


def test_the_first_start_installs_and_later_ones_only_when_something_changed(project):
    calls = project.parent / "calls"
    first = start(project, "app", "--port", "1")
    assert (first.returncode, first.stdout) == (7, "['--port', '1']\n"), first.stderr
    assert "install" in calls.read_text()
    installed = project / ".venv" / "requirements-installed.txt"
    assert "opencv-python>=4,<5" in installed.read_text()
    calls.unlink()
    again = start(project, "app")
    assert (again.returncode, again.stdout, again.stderr) == (7, "[]\n", "")
    assert not calls.exists()

    use_libraries(project, "libno.so.9")
    switched = start(project, "setup")
    assert switched.returncode == 0
    assert "libno.so.9" in switched.stderr
    assert "opencv-python-headless>=4,<5" in installed.read_text()

    (project / "requirements.txt").write_text("opencv-python>=5,<6\n")
    failed = start(project, "app", FAILS="1")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("run.py: pip could not")
    (project / ".venv" / "broken").touch()
    assert start(project, "app").returncode == 7
    assert not (project / ".venv" / "broken").exists()


def test_what_is_not_ours_is_left_and_told_in_one_line(project):
    environment = project / ".venv"
    environment.mkdir()
    (environment / "mine").touch()
    for words in ("move it away", "run.py: the set-up cannot"):
        done = start(project, "app")
        assert done.returncode == 1
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
        if environment.is_dir():
            (environment / "mine").unlink()
            environment.rmdir()
            environment.symlink_to(project / "nowhere" / "else")


def test_the_supported_pythons_are_the_same_everywhere(monkeypatch):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    oldest, newest = run.PYTHON_VERSIONS[0], run.PYTHON_VERSIONS[-1]
    assert settings["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert f"FROM python:{oldest}-slim" in (ROOT / "Dockerfile").read_text()
    assert f"Python {oldest} to {newest}" in WHOLE.read_text()
    monkeypatch.setattr(run, "python_version", lambda python: "3.9")
    with pytest.raises(SystemExit, match=run.SUPPORTED):
        run.make_environment()
    # an older Python can read this file, to say so
    ast.parse(Path(run.__file__).read_text(), feature_version=(3, 6))


@pytest.mark.parametrize(
    ("own", "quotas", "expected"),
    [
        ("0::/", {}, 6),
        ("0::/", {"": "max 100000"}, 6),
        ("0::/", {"": "150000 100000"}, 2),
        ("0::/", {"": "10000 100000"}, 1),
        ("0::/", {"": "nonsense"}, 6),
        ("0::/", {"": "100000 0"}, 6),
        ("0::/a/b", {"a": "300000 100000", "a/b": "max 100000"}, 3),
        ("0::/a", {"other": "100000 100000"}, 6),
        ("1:name=systemd:/", {"": "500000 100000"}, 5),
        (None, {}, 6),
    ],
)
def test_processors_of_control_groups(tmp_path, monkeypatch, own, quotas, expected):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    for group, quota in quotas.items():
        (tmp_path / "groups" / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / group / "cpu.max").write_text(f"{quota}\n")
    if own:
        (tmp_path / "cgroup").write_text(f"3:cpuset:/elsewhere\n{own}\n")
    assert available_cpus(tmp_path / "groups", tmp_path / "cgroup") == expected
    if not own:
        monkeypatch.delattr(os, "sched_getaffinity")
        assert available_cpus(tmp_path / "groups", tmp_path / "cgroup") == 8
