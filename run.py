"""Set the project up in its own environment and run a command in it: `python3 run.py app`.

Standard library only. The language is kept old on purpose (annotations newer than Python 3.6 are
quoted), so that an older Python can still start this file and say what is needed.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: two first starts at once are not kept apart there
    fcntl = None

PYTHON_VERSIONS = ("3.11", "3.12", "3.13")

ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
WANTED = ENVIRONMENT / "requirements-wanted.txt"  # what pip is asked for
INSTALLED = ENVIRONMENT / "requirements-installed.txt"  # the same, once it is all there
UNFINISHED = ENVIRONMENT / "unfinished"  # there while this file builds or changes the environment

# command: what the environment's Python is given, and one line of help
COMMANDS = {
    "app": ([str(ROOT / "app.py")], "start the web app, e.g. app --port 8000"),
    "test": (["-m", "pytest"], "run the tests, e.g. test -k setup"),
    "train": ([str(ROOT / "emotion_model_training.py")], "train a model on dataset/"),
    "detect": ([str(ROOT / "emotion_detector.py")], "webcam, video or photo from the shell"),
    "python": ([], "the environment's own Python, e.g. python -m pip list"),
    "lint": (["-m", "ruff"], "check style and formatting"),
    "setup": ([], "only install what is needed"),
}

# What the desktop wheel of OpenCV loads from the system: the first four for `import cv2`, the
# others for the Qt window (without them cv2.imshow ends the whole process).
DESKTOP_LIBRARIES = (
    "libGL.so.1",
    "libglib-2.0.so.0",
    "libgthread-2.0.so.0",
    "libxcb.so.1",
    "libX11.so.6",
    "libXext.so.6",
    "libSM.so.6",
    "libICE.so.6",
)
DESKTOP, HEADLESS = "opencv-python", "opencv-python-headless"

# Imported once after an installation, so that a broken one is found there and not in the app.
VERIFIED_IMPORTS = ("cv2", "flask", "waitress", "PIL", "numpy", "onnxruntime", "tensorflow")


class SetupError(Exception):
    """The set-up cannot go on; the message is one sentence for the user."""


def main(arguments: "list[str]") -> int:
    """Run one command line and return its exit code."""
    command, passed_on = (arguments or [""])[0], arguments[1:]
    if command not in COMMANDS:
        asked = command in ("-h", "--help", "help")
        print(usage(), file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    # ended like this, and not at once, the set-up takes a running pip along
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        ensure_environment()
        return start(command, passed_on)
    except SetupError as error:
        say(str(error))
    except OSError as error:
        say(f"the set-up cannot go on: {error} ({free_disk()}).")
    except KeyboardInterrupt:
        say("interrupted; the same command sets up what is missing.")
        return 130
    return 1


def usage() -> str:
    """Return the text that explains the commands."""
    lines = [f"  {name:8}{text}" for name, (_, text) in COMMANDS.items()]
    head = "usage: python3 run.py COMMAND [ARGUMENTS]"
    return "\n".join([head, "", *lines, "", "Arguments are passed on: python3 run.py app --help"])


def say(text: str) -> None:
    """Print one line of progress or trouble on stderr; stdout belongs to the command."""
    print(f"run.py: {text}", file=sys.stderr, flush=True)


def start(command: str, arguments: "list[str]") -> int:
    """Run a command in the environment and return its exit code (on POSIX: become it)."""
    if command == "setup":
        say(f"ready: {ENVIRONMENT}")
        return 0
    if command in ("test", "lint"):
        os.chdir(str(ROOT))
    whole = [environment_python(), *COMMANDS[command][0]]
    if command == "lint":
        checks = (["check"], ["format", "--check"])
        return max(subprocess.call([*whole, *check, *arguments]) for check in checks)
    return become([*whole, *arguments])


def become(command: "list[str]") -> int:
    """Hand this process over to a command, so that signals and exit codes are its own."""
    if os.name == "posix":
        os.execv(command[0], command)
    process = subprocess.Popen(command)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:  # the command got it too and decides what to do with it
            continue


# The environment


def ensure_environment() -> None:
    """Make the environment hold what requirements.txt asks for; instant when it does."""
    flavour = HEADLESS if missing_desktop_libraries() else DESKTOP
    if is_ready(flavour):
        return
    with one_at_a_time():
        if not is_ready(flavour):
            install(flavour)


def is_ready(flavour: str) -> bool:
    """Tell whether the last installation was finished and was of the same requirements."""
    if UNFINISHED.exists() or not INSTALLED.exists():
        return False
    version = python_version(environment_python())
    return version is not None and INSTALLED.read_text() == requirements(flavour, version)


def install(flavour: str) -> None:
    """Create, mend or change the environment; the record of what it holds is written last."""
    version = ensure_python()
    if INSTALLED.exists():  # only then was it made here, and may be rebuilt if interrupted
        UNFINISHED.touch()
    if flavour == HEADLESS:
        explain_headless()
    remove_other_flavour(flavour)
    install_packages(requirements(flavour, version))
    verify()
    WANTED.replace(INSTALLED)
    if UNFINISHED.exists():
        UNFINISHED.unlink()


def requirements(flavour: str, version: str) -> str:
    """Return what pip is asked for, which is also the record of what was installed."""
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    if flavour == HEADLESS:
        lines = [line.replace(f"{DESKTOP}>=", f"{HEADLESS}>=") for line in lines]
    return "\n".join([f"# Python {version}", *filter(None, lines), ""])


def install_packages(wanted: str) -> None:
    """Let pip install a requirements text."""
    say("installing the packages; the first time takes some minutes.")
    WANTED.write_text(wanted)
    if pip("install", "--prefer-binary", "-r", str(WANTED)) != 0:
        raise SetupError(
            f"pip could not install the packages, its own message is above ({free_disk()}); "
            "the same command tries again."
        )


def ensure_python() -> str:
    """Return the version of the environment's Python, making the environment where needed."""
    version = python_version(environment_python())
    if UNFINISHED.exists() or not ENVIRONMENT.exists():
        return create()
    if INSTALLED.exists():
        same = INSTALLED.read_text().startswith(f"# Python {version}\n")
        return version if same else create()
    return accept_foreign(version)


def accept_foreign(version: "str | None") -> str:
    """Return the version of an environment made by other means: it is filled, never removed."""
    if version in PYTHON_VERSIONS and can_import(environment_python(), "pip"):
        return version
    raise SetupError(
        f"{ENVIRONMENT} was not made by run.py and does not serve (it needs pip and Python "
        f"{supported_versions()}): move it away, then run the same command again."
    )


def create() -> str:
    """Make the environment anew and return the version of its Python."""
    python = find_python()
    ensure_ensurepip(python)
    say(f"making {ENVIRONMENT} with Python {python_version(python)}.")
    clear_environment()
    if call([python, "-m", "venv", str(ENVIRONMENT)]) != 0:
        raise SetupError(f"the environment could not be made, see above ({free_disk()}).")
    return python_version(environment_python())


def clear_environment() -> None:
    """Leave an empty environment folder, marked as unfinished before anything is removed."""
    ENVIRONMENT.mkdir(exist_ok=True)
    UNFINISHED.touch()
    for path in ENVIRONMENT.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(str(path))
        elif path != UNFINISHED:
            path.unlink()


def remove_other_flavour(flavour: str) -> None:
    """Uninstall the other OpenCV: both share files, so removing one later breaks the other."""
    other = DESKTOP if flavour == HEADLESS else HEADLESS
    code = "import importlib.metadata as metadata, sys; metadata.version(sys.argv[1])"
    if succeeds([environment_python(), "-c", code, other]):
        say(f"changing from {other} to {flavour}.")
        pip("uninstall", "-y", DESKTOP, HEADLESS)


def pip(*arguments: str) -> int:
    """Run the environment's pip, with the user's own pip settings, and return its exit code."""
    # a user-wide "user = true" would refuse to install into any environment
    variables = dict(os.environ, PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1")
    return call([environment_python(), "-m", "pip", *arguments], env=variables)


def verify() -> None:
    """Import the main packages once, naming the first that does not load."""
    say("checking that the packages load.")
    code = "import importlib, sys\nfor n in sys.argv[1:]: print(n); importlib.import_module(n)"
    command = [environment_python(), "-u", "-c", code, *VERIFIED_IMPORTS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    output, errors = process.communicate()
    if process.returncode != 0:
        package = last_line(output) or "Python"
        reason = last_line(errors) or f"exit code {process.returncode}"
        raise SetupError(f"{package} was installed but does not load: {reason}")


def last_line(output: bytes) -> str:
    """Return the last line of a program's output that is not empty."""
    lines = output.decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


@contextlib.contextmanager
def one_at_a_time():
    """Let one run.py install at a time; this file itself is the lock, so nothing stays behind."""
    with Path(__file__).open("rb") as handle:
        if fcntl:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("waiting for another run.py that is installing.")
                fcntl.flock(handle, fcntl.LOCK_EX)
            except OSError:  # a network disk without locks: as on Windows
                pass
        yield


# The machine


def missing_desktop_libraries() -> "list[str]":
    """Return the system libraries that the desktop OpenCV needs and that do not load."""
    if not sys.platform.startswith("linux"):
        return []  # the wheels of the other systems bring everything
    return [name for name in DESKTOP_LIBRARIES if not loads(name)]


def loads(library: str) -> bool:
    """Tell whether the system has a shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def explain_headless() -> None:
    """Say in one line what is lost without the desktop libraries and how to get it."""
    lacking = ", ".join(missing_desktop_libraries())
    say(
        f"this system lacks {lacking}: {HEADLESS} is installed in place of {DESKTOP}, and only the "
        "webcam window is lost; for that run `apt-get install libgl1 libglib2.0-0 libsm6` as root, "
        "then `python3 run.py setup`."
    )


def environment_python() -> str:
    """Return the path of the environment's Python."""
    return str(ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def find_python() -> str:
    """Return a Python of a supported version: the base of the running one, or one on the PATH."""
    running = getattr(sys, "_base_executable", None) or sys.executable
    for name in (running, *(f"python{version}" for version in PYTHON_VERSIONS)):
        path = shutil.which(name)
        if path and python_version(path) in PYTHON_VERSIONS:
            return path
    raise SetupError(
        f"Python {supported_versions()} is needed, but this is Python {sys.version.split()[0]}: "
        "install one of them, then run the same command with it."
    )


def supported_versions() -> str:
    """Return the supported versions of Python in words."""
    return " or ".join([", ".join(PYTHON_VERSIONS[:-1]), PYTHON_VERSIONS[-1]])


def python_version(python: str) -> "str | None":
    """Return a Python's version such as "3.11", or None where it does not run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        output = subprocess.check_output([python, "-c", code], stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return None
    return output.decode().strip()


def can_import(python: str, module: str) -> bool:
    """Tell whether a Python has a module."""
    return succeeds([python, "-c", f"import {module}"])


def ensure_ensurepip(python: str) -> None:
    """Install what Debian and Ubuntu leave out of python3 and an environment needs."""
    if can_import(python, "ensurepip"):
        return
    package = f"python{python_version(python)}-venv"
    apt_install(package)
    if not can_import(python, "ensurepip"):
        raise SetupError(
            f"this Python lacks its venv part: run `apt-get install {package}` as root (on other "
            "systems: what they call it), then the same command again."
        )


def apt_install(package: str) -> None:
    """Install a Debian package where that is possible without asking for a password."""
    root = root_prefix()
    if root is None or not shutil.which("apt-get"):
        return
    say(f"installing {package} with apt-get.")
    apt = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]
    call([*apt, "update"])
    call([*apt, "install", "-y", "--no-install-recommends", package])


def root_prefix() -> "list[str] | None":
    """Return what to put before a command to run it as root without asking, None if nothing."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return []
    return ["sudo", "-n"] if succeeds(["sudo", "-n", "true"]) else None


def call(command: "list[str]", **options) -> int:
    """Run a command with its output on stderr and return its exit code."""
    return subprocess.call(command, stdout=sys.stderr, **options)


def succeeds(command: "list[str]") -> bool:
    """Tell whether a command exits with 0, without showing what it prints."""
    quiet = subprocess.DEVNULL
    try:
        return subprocess.call(command, stdin=quiet, stdout=quiet, stderr=quiet) == 0
    except OSError:
        return False


def free_disk() -> str:
    """Return the free room on the project's disk in words."""
    return f"{shutil.disk_usage(str(ROOT)).free / 1e9:.1f} GB of disk free"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
