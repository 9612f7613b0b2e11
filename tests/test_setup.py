"""The set-up: run.py in copies of its own, filled from hand-made wheels; the requirement files."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import run

ROOT = Path(run.__file__).parent
WHOLE, SERVING = ROOT / "requirements.txt", ROOT / "requirements-serve.txt"


def read_requirements(path: Path) -> dict[str, Requirement]:
    """Return the requirements of a file by name."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    found = [Requirement(line) for line in lines if line]
    return {requirement.name: requirement for requirement in found}


# The requirement files


@pytest.mark.parametrize("path", [WHOLE, SERVING], ids=lambda path: path.name)
def test_every_requirement_has_a_lower_and_an_upper_bound(path):
    for requirement in read_requirements(path).values():
        operators = sorted(bound.operator for bound in requirement.specifier)
        assert operators == ["<", ">="], str(requirement)


def test_serving_takes_a_part_of_the_whole_set_with_the_same_bounds():
    whole, serving = read_requirements(WHOLE), read_requirements(SERVING)
    serving[run.DESKTOP] = serving.pop(run.HEADLESS)
    assert {"flask", "onnxruntime", run.DESKTOP} <= set(serving) < set(whole)
    assert "tensorflow" not in serving
    bounds = {name: whole[name].specifier for name in serving}
    assert {name: requirement.specifier for name, requirement in serving.items()} == bounds


@pytest.mark.parametrize("name", sorted(read_requirements(WHOLE)))
def test_these_tests_run_with_a_version_within_the_bounds(name):
    requirement = read_requirements(WHOLE)[name]
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        optional = {run.DESKTOP: run.HEADLESS}  # each stands for the other
        version = metadata.version(optional.get(name, name))
    assert Version(version) in requirement.specifier


def test_the_two_opencv_packages_are_not_installed_together():
    names = {distribution.name for distribution in metadata.distributions()}
    assert len(names & {run.DESKTOP, run.HEADLESS}) == 1


# The container


def test_the_container_copies_what_there_is_and_no_more_than_it_is_sent():
    lines = [line.split() for line in (ROOT / "Dockerfile").read_text().splitlines()]
    copied = [name for line in lines if line[:1] == ["COPY"] for name in line[1:-1]]
    sent = [line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"]
    assert sorted(copied) == sorted(sent)
    assert all((ROOT / name).exists() for name in copied)


def test_the_container_installs_the_serving_set_and_is_no_administrator():
    text = (ROOT / "Dockerfile").read_text()
    assert "install --no-cache-dir -r requirements-serve.txt" in text
    assert text.index("\nUSER emotion") < text.index("\nCMD ")


# run.py without an environment


@pytest.mark.parametrize(
    ("arguments", "code", "stream"),
    [([], 2, "stderr"), (["fly"], 2, "stderr"), (["--help"], 0, "stdout")],
)
def test_without_a_known_command_the_usage_is_shown_and_nothing_installed(
    tmp_path, arguments, code, stream
):
    shutil.copy(run.__file__, tmp_path)
    done = start(tmp_path, *arguments)
    assert done.returncode == code
    assert all(f"\n  {name} " in getattr(done, stream) for name in run.COMMANDS)
    assert not (tmp_path / ".venv").exists()


def test_every_command_starts_a_script_that_exists():
    scripts = [part for command, _ in run.COMMANDS.values() for part in command if "/" in part]
    assert len(scripts) == 3
    assert all(Path(script).is_file() for script in scripts)


@pytest.mark.parametrize(("flavour"), [run.DESKTOP, run.HEADLESS])
def test_exactly_one_opencv_is_asked_for_and_with_the_same_bounds(flavour):
    lines = run.requirements(flavour, "3.11").splitlines()
    bounds = str(read_requirements(WHOLE)[run.DESKTOP].specifier)
    asked = [Requirement(line) for line in lines if line.startswith("opencv")]
    assert [(each.name, str(each.specifier)) for each in asked] == [(flavour, bounds)]


def test_the_supported_pythons_are_told_the_same_way_everywhere():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    oldest, newest = run.PYTHON_VERSIONS[0], run.PYTHON_VERSIONS[-1]
    assert settings["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert f"FROM python:{oldest}-slim" in (ROOT / "Dockerfile").read_text()
    assert f"Python {oldest} to {newest}" in WHOLE.read_text()


def test_an_unsupported_python_is_told_which_ones_serve(monkeypatch):
    monkeypatch.setattr(run, "python_version", lambda python: "3.9")
    with pytest.raises(run.SetupError, match=r"Python 3\.11, 3\.12 or 3\.13 is needed"):
        run.find_python()


@pytest.mark.parametrize(
    ("libraries", "missing"), [(("libc.so.6",), []), (("libno.so.9",), ["libno.so.9"])]
)
def test_missing_desktop_libraries_are_noticed(monkeypatch, libraries, missing):
    monkeypatch.setattr(run, "DESKTOP_LIBRARIES", libraries)
    monkeypatch.setattr(run.sys, "platform", "linux")
    if libraries == ("libc.so.6",) and not run.loads("libc.so.6"):
        pytest.skip("this system's C library has another name")
    assert run.missing_desktop_libraries() == missing


@pytest.mark.parametrize("root", [None, []])
def test_a_python_without_its_venv_part_is_told_the_package(monkeypatch, root):
    calls = []
    monkeypatch.setattr(run, "can_import", lambda python, module: False)
    monkeypatch.setattr(run, "root_prefix", lambda: root)
    monkeypatch.setattr(run.shutil, "which", lambda name: name)
    monkeypatch.setattr(run, "call", lambda command: calls.append(command[-1]))
    package = "python{}.{}-venv".format(*sys.version_info[:2])
    with pytest.raises(run.SetupError, match=f"apt-get install {package}"):
        run.ensure_ensurepip(sys.executable)
    assert calls == ([] if root is None else ["update", package])


# run.py with an environment, in a small project of its own


def start(project: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Run a project's run.py from another folder, with pip reading only the hand-made wheels."""
    offline = {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(project.parent / "wheels"),
        "PIP_USER": "1",
    }
    return subprocess.run(
        [sys.executable, str(project / "run.py"), *arguments],
        cwd=project.parent,
        env=os.environ | offline | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def make_wheel(folder: Path, name: str, module: str, version: str = "4.14", code: str = "") -> None:
    """Write a wheel with one module that knows its version."""
    stem = f"{name.replace('-', '_')}-{version}"
    files = {
        f"{module}.py": f"version = {version!r}\nname = {name!r}\n{code}\n",
        f"{stem}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{stem}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in files)
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
        for path, text in (files | {f"{stem}.dist-info/RECORD": record}).items():
            wheel.writestr(path, text)


@pytest.fixture
def project(tmp_path) -> Path:
    """Return a folder with spaces in its name that holds run.py and needs stand-in packages."""
    folder = tmp_path / "my project"
    folder.mkdir()
    shutil.copy(run.__file__, folder)
    for name in (run.DESKTOP, run.HEADLESS):
        make_wheel(tmp_path / "wheels", name, "cv2")
    others = [name for name in run.VERIFIED_IMPORTS if name != "cv2"]
    for name in others:
        make_wheel(tmp_path / "wheels", name, name)
    lines = [f"{name}>=4,<5  # why" for name in [run.DESKTOP, *others]]
    (folder / "requirements.txt").write_text("# all\n\n" + "\n".join(lines) + "\n")
    (folder / "app.py").write_text(
        "import sys, cv2, flask\nprint(cv2.name, flask.version, sys.argv[1:])\nsys.exit(7)\n"
    )
    return folder


def use_libraries(project: Path, *names: str) -> None:
    """Let a project's run.py look for these system libraries."""
    path = project / "run.py"
    head, _, rest = path.read_text().partition("DESKTOP_LIBRARIES = (")
    path.write_text(f"{head}DESKTOP_LIBRARIES = {names!r}\n_UNUSED = ({rest}")


def test_the_first_start_installs_and_later_ones_only_when_something_changed(project):
    use_libraries(project)  # none is needed, so none is missing
    first = start(project, "app", "--port", "1")
    assert (first.returncode, first.stdout) == (
        7,
        "opencv-python 4.14 ['--port', '1']\n",
    ), first.stderr
    again = start(project, "app")
    assert (again.returncode, again.stdout, again.stderr) == (7, "opencv-python 4.14 []\n", "")

    make_wheel(project.parent / "wheels", "flask", "flask", "5.1")
    text = (project / "requirements.txt").read_text()
    (project / "requirements.txt").write_text(text.replace("flask>=4,<5", "flask>=5,<6"))
    changed = start(project, "app")
    assert changed.stdout == "opencv-python 5.1 []\n", changed.stderr
    assert "making" not in changed.stderr

    use_libraries(project, "libno.so.9")
    switched = start(project, "app")
    assert switched.stdout == "opencv-python-headless 5.1 []\n", switched.stderr
    assert "lacks libno.so.9" in switched.stderr
    listed = start(project, "python", "-m", "pip", "list", PIP_USER="0").stdout
    assert run.HEADLESS in listed
    assert run.DESKTOP not in listed.replace(run.HEADLESS, "")

    (project / ".venv" / "unfinished").touch()
    (project / ".venv" / "broken").touch()
    mended = start(project, "app")
    assert mended.stdout == "opencv-python-headless 5.1 []\n", mended.stderr
    assert not (project / ".venv" / "broken").exists()


def test_an_installation_that_fails_ends_in_one_line_and_is_done_again(project):
    (project.parent / "wheels" / "PIL-4.14-py3-none-any.whl").rename(project / "hidden")
    failed = start(project, "app")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("run.py: pip could not install the packages")
    assert "Traceback" not in failed.stderr

    make_wheel(project.parent / "wheels", "PIL", "PIL", code="raise ImportError('no libno.so.9')")
    broken = start(project, "setup")
    assert broken.returncode == 1
    assert broken.stderr.splitlines()[-1] == (
        "run.py: PIL was installed but does not load: ImportError: no libno.so.9"
    )

    make_wheel(project.parent / "wheels", "PIL", "PIL")
    whole = start(project, "app")
    assert whole.returncode == 7, whole.stderr


def test_an_environment_made_by_other_means_is_filled_or_refused_but_never_removed(project):
    folder = project / ".venv"
    folder.mkdir()
    (folder / "mine").touch()
    refused = start(project, "app")
    assert refused.returncode == 1
    assert "was not made by run.py" in refused.stderr.splitlines()[-1]

    subprocess.run([run.find_python(), "-m", "venv", folder], check=True)
    filled = start(project, "app")
    assert filled.returncode == 7, filled.stderr
    assert (folder / "mine").exists()


def test_a_folder_that_cannot_be_written_ends_in_one_line(project):
    (project / ".venv").symlink_to(project / "nowhere" / "else")
    done = start(project, "app")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("run.py: the set-up cannot go on:")
    assert "Traceback" not in done.stderr
