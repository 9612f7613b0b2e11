"""Set the project up in its own environment and run a command in it: `python3 run.py app`.

Standard library only, in the language of Python 3.6, so that an older Python can still start this
file and say what is needed.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

PYTHON_VERSIONS = ("3.11", "3.12", "3.13")
SUPPORTED = " or ".join(PYTHON_VERSIONS)
ROOT = Path(__file__).resolve().parent
ENVIRONMENT = ROOT / ".venv"
PYTHON = str(ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
INSTALLED = ENVIRONMENT / "requirements-installed.txt"  # what pip has installed to the end
UNFINISHED = "unfinished"  # its content while an environment of ours is changed

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

# The system libraries of the desktop wheel of OpenCV: the first four for `import cv2`, the others
# for its window (without them cv2.imshow ends the whole process).
DESKTOP_LIBRARIES = (
    "libGL.so.1 libglib-2.0.so.0 libgthread-2.0.so.0 libxcb.so.1 libX11.so.6 libXext.so.6 "
    "libSM.so.6 libICE.so.6"
).split()
DESKTOP, HEADLESS = "opencv-python", "opencv-python-headless"


def main(arguments):
    """Run one command line and return its exit code."""
    command, passed_on = (arguments or [""])[0], arguments[1:]
    if command not in COMMANDS:
        asked = command in ("-h", "--help", "help")
        lines = ["usage: python3 run.py COMMAND [ARGUMENTS, which are passed on]", ""]
        lines += [f"  {name:8}{text}" for name, (_, text) in COMMANDS.items()]
        print("\n".join(lines), file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    # SystemExit, unlike a sudden end, takes a running pip along
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        # one at a time: this file itself is the lock, so nothing stays behind
        with Path(__file__).open("rb") as handle:
            # neither Windows nor some network disks have such locks
            with contextlib.suppress(ImportError, OSError):
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX)
            set_up()
    except OSError as error:
        sys.exit(f"run.py: the set-up cannot go on: {error}")
    except KeyboardInterrupt:
        say("interrupted; the same command goes on")
        return 130
    if command == "setup":
        return say(f"ready: {ENVIRONMENT}")
    whole = [PYTHON] + COMMANDS[command][0]
    if command in ("test", "lint"):
        os.chdir(str(ROOT))
    if command == "lint":
        checks = (["check"], ["format", "--check"])
        return max(subprocess.call(whole + check + passed_on) for check in checks)
    if os.name == "posix":  # become the command: signals and exit code are its own
        os.execv(PYTHON, whole + passed_on)
    return subprocess.call(whole + passed_on)


def set_up():
    """Make the environment hold what requirements.txt asks for; instant when it does."""
    missing = []
    if sys.platform.startswith("linux"):  # the wheels of other systems bring them along
        for name in DESKTOP_LIBRARIES:
            try:
                ctypes.CDLL(name)
            except OSError:
                missing.append(name)
    flavour, other = (HEADLESS, DESKTOP) if missing else (DESKTOP, HEADLESS)
    wanted = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    wanted = wanted.replace(DESKTOP + ">=", flavour + ">=")
    version = python_version(PYTHON)
    before = INSTALLED.read_text(encoding="utf-8") if INSTALLED.exists() else ""
    if before == f"# Python {version}\n{wanted}":
        return
    if not ENVIRONMENT.exists() or (before and not before.startswith(f"# Python {version}\n")):
        version = make_environment()
    elif before:
        INSTALLED.write_text(UNFINISHED, encoding="utf-8")
    elif version not in PYTHON_VERSIONS or not succeeds([PYTHON, "-c", "import pip"]):
        # made by other means: it is filled, never removed
        sys.exit(f"run.py: {ENVIRONMENT} has no pip or no Python {SUPPORTED}: move it away")
    if missing:
        say(f"this system lacks {', '.join(missing)}: {HEADLESS} is installed, without the webcam")
        say("window; `apt-get install libgl1 libglib2.0-0 libsm6`, then `run.py setup` bring it")
    if succeeds([PYTHON, "-m", "pip", "show", other]):
        # both have the same files, so removing one later would break the other
        call([PYTHON, "-m", "pip", "uninstall", "-y", DESKTOP, HEADLESS])
    say("installing the packages; the first time takes some minutes")
    part = INSTALLED.with_suffix(".part")
    part.write_text(f"# Python {version}\n{wanted}", encoding="utf-8")
    if call([PYTHON, "-m", "pip", "install", "--prefer-binary", "-r", str(part)]) != 0:
        sys.exit("run.py: pip could not install the packages, see above")
    if call([PYTHON, "-c", "import cv2, flask, waitress, PIL, numpy, onnxruntime, tensorflow"]):
        sys.exit("run.py: a package was installed but does not load, see above")
    part.replace(INSTALLED)


def make_environment():
    """Make the environment anew and return the version of its Python."""
    running = getattr(sys, "_base_executable", None) or sys.executable
    paths = [shutil.which(name) for name in [running] + ["python" + v for v in PYTHON_VERSIONS]]
    python = next((path for path in paths if python_version(path) in PYTHON_VERSIONS), None)
    if python is None:
        sys.exit(f"run.py: Python {SUPPORTED} is needed: install it, then start this file with it")
    if not succeeds([python, "-c", "import ensurepip"]):
        package = f"python{python_version(python)}-venv"  # Debian leaves it out of python3
        if shutil.which("apt-get") and os.geteuid() == 0:
            call(["apt-get", "-q", "update"])
            call(["apt-get", "-q", "install", "-y", "--no-install-recommends", package])
        else:
            sys.exit(f"run.py: this Python has no venv: run `apt-get install {package}` as root")
    say(f"making {ENVIRONMENT} with {python}")
    ENVIRONMENT.mkdir(exist_ok=True)
    INSTALLED.write_text(UNFINISHED, encoding="utf-8")  # before anything is removed
    for path in ENVIRONMENT.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(str(path))
        elif path != INSTALLED:
            path.unlink()
    if call([python, "-m", "venv", str(ENVIRONMENT)]) != 0:
        sys.exit("run.py: the environment could not be made, see above")
    return python_version(python)


def python_version(python):
    """Return a Python's version such as "3.11", None where it does not run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        output = subprocess.check_output([str(python), "-c", code], stderr=subprocess.DEVNULL)
        return output.decode().strip()


def say(text):
    print("run.py: " + text, file=sys.stderr, flush=True)  # stdout belongs to the command


def call(command, output=sys.stderr):
    # a user-wide "user = true" of pip's would refuse to install into any environment
    variables = dict(os.environ, PIP_USER="0", PIP_DISABLE_PIP_VERSION_CHECK="1")
    return subprocess.call(command, stdout=output, stderr=output, env=variables)


def succeeds(command):
    return call(command, subprocess.DEVNULL) == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
