"""The processes that work on photos: as many as processors, each lent to one task at a time.

A task that runs too long, or takes its process down with it, costs nobody else anything: another
process is started in its place.
"""

import logging
import os
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from emotion import errors
from emotion.files import available_cpus
from emotion.model.runtime import StoredModel
from emotion.web.logs import LOGGER
from emotion.web.photos.job import receive, send
from emotion.web.sandbox import clean_environment
from emotion.web.settings import PROJECT_FOLDER, Settings

LOG = logging.getLogger(LOGGER)
COMMAND = (sys.executable, "-m", "emotion.web.photos.job")
START_S = 60.0  # in which a process must have loaded its model
PATIENCE_S = 1.5  # for a process; then who has several must give one back
SMALL_BYTES = 2**20  # a photo of so many is read in a moment
WAIT_S = 30.0  # and then the server is busy
MOST_TRIES = 4  # of a task whose process was needed for others
SLOW_S = 60.0  # for how long an address whose photo took too long has one process at a time
MOST_PAUSE_S = 30.0  # between two starts where the first failed

Answer = tuple[dict, dict[str, bytes]]


class _Ended(Exception):  # noqa: N818  (a message between two functions)
    """A process ended within a task."""


class _Worker:
    """One process; used by one thread at a time."""

    def __init__(self, settings: Settings, command: Sequence[str]):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        # NumPy multiplies no matrices here; its threads would hold memory for it
        environment = clean_environment() | {"OPENBLAS_NUM_THREADS": "1"}
        about = {"cwd": PROJECT_FOLDER, "env": environment}
        # a group of its own: Ctrl-C in a terminal is for the app, which then ends this process
        self.process = subprocess.Popen(command, process_group=0, **about, **pipes)
        self.models: set[str] = set()
        self.is_wanted = False  # whether it was ended for no fault of its task
        yunet = str(settings.yunet) if settings.yunet else None
        send(self.process.stdin, {"memory_mb": settings.photo_memory_mb, "yunet": yunet}, {})

    def do(self, seconds: float, about: Mapping, parts: Mapping[str, bytes]) -> Answer:
        """Do a task, or end the process and raise `_Ended`."""
        timer = threading.Timer(seconds, self.process.kill)
        timer.start()
        try:
            send(self.process.stdin, {"seconds": seconds, **about}, parts)
            return receive(self.process.stdout)
        except (OSError, EOFError, ValueError, TypeError) as error:
            self.end()
            raise _Ended from error
        finally:
            timer.cancel()

    def load(self, model: StoredModel) -> None:
        """Give the process a model; raises ModelError or `_Ended`."""
        if model.sha256 in self.models:
            return
        names = ("sha256", "class_names", "card", "notes")
        about = {name: getattr(model, name) for name in names} | {"stem": str(model.stem)}
        parts = {"fast_form": model.fast_form} if model.fast_form else {}
        task = {"task": "load", "model": model.sha256}
        _checked(*self.do(START_S, task | about, parts))
        self.models.add(model.sha256)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            try:
                pipe.close()
            except OSError:  # what was not sent yet
                continue


@dataclass(eq=False)
class _Waiting:
    client: str
    is_large: bool
    number: int = field(default_factory=count().__next__)


class PhotoWorkers:
    """The pool; safe to share between threads. None of its processes runs before `start`.

    `problem` says why the default model cannot answer, "" if it can.
    """

    def __init__(self, settings: Settings, model: StoredModel | None, command=COMMAND):
        self.settings, self.model, self.problem = settings, model, ""
        self._command = command  # speaks as `job` does
        self.most = settings.photo_workers or min(available_cpus(), settings.max_in_hand)
        self._news, self._is_known = threading.Condition(), threading.Event()
        self._reset()

    def _reset(self) -> None:
        self._process, self._is_stopping = os.getpid(), False
        self._free: list[_Worker] = []
        weakref.finalize(self, _end_all, self._free, self._process)
        self._running = 0  # or being started
        self._waiting: list[_Waiting] = []
        self._busy: dict[_Worker, str] = {}  # -> who has it, the latest last
        self._slow: dict[str, float] = {}  # client -> until when

    def start(self) -> None:
        with self._news:
            if self._process != os.getpid():  # the processes of one that forked are its own
                self._reset()
            while self._running < self.most and not self._is_stopping:
                self._running += 1
                threading.Thread(target=self._launch, name="photos", daemon=True).start()

    def wait_until_ready(self, seconds: float) -> None:
        """Wait until it is known whether photos can be read, as `problem` then says."""
        self.start()
        self._is_known.wait(seconds)

    def stop(self) -> None:
        with self._news:
            self._is_stopping = True
            _end_all(self._free, self._process)

    def call(
        self, client: str, model: StoredModel | None, task: str, content: bytes, **about: object
    ) -> Answer:
        """Return what a task of `reading` answers, or raise the ImageError that it raises.

        Raises SlowImageError after PHOTO_SECONDS, BusyError, and ModelError.
        """
        self.start()
        seconds, named = self.settings.photo_seconds, {"task": task, "model": None}
        for _ in range(MOST_TRIES):
            worker, is_alive = self._take(client, len(content) <= SMALL_BYTES), False
            started_s = time.monotonic()
            try:
                if model:
                    worker.load(model)
                    named["model"], started_s = model.sha256, time.monotonic()
                answer = worker.do(seconds, named | about, {"content": content})
                is_alive = True
                return _checked(*answer)
            except errors.EmotionError:
                is_alive = True
                raise
            except _Ended as ended:
                if not worker.is_wanted:
                    raise self._problem_of(client, time.monotonic() - started_s) from ended
            finally:
                self._give_back(worker, is_alive)
        raise errors.BusyError("expected a process for the photo; it was needed for others")

    def _problem_of(self, client: str, seconds: float) -> errors.ImageError:
        """Return the error of a task that has ended its process, or had to be ended."""
        most = self.settings.photo_seconds
        if seconds < most:
            LOG.warning("a process ended while it worked on a photo")
            words = "expected a photo that can be decoded; the work on it ended unexpectedly"
            return errors.DamagedImageError(words)
        LOG.warning("a task took longer than %g s and was ended", most)
        with self._news:
            self._slow[client] = time.monotonic() + SLOW_S
        words = f"expected a photo that is read within {most:g} seconds; received a slower one"
        return errors.SlowImageError(words)

    def load(self, model: StoredModel) -> None:
        """Raise a ModelError unless a model answers as it should."""
        self.call("", model, "nothing", b"")

    def _take(self, client: str, is_small: bool = True) -> _Worker:
        """Wait for a process; who has fewest gets it, then small photos, then the first."""
        with self._news:
            me = _Waiting(client, not is_small)
            self._waiting.append(me)

            def is_my_turn() -> bool:
                return self._free and self._next() is me

            try:
                if not self._news.wait_for(is_my_turn, PATIENCE_S):
                    self._want_one(client)
                    if not self._news.wait_for(is_my_turn, WAIT_S):
                        raise errors.BusyError("expected a process for the photo; all are at work")
                worker = self._free.pop()
                # the system may have ended it, for its memory for instance
                worker.is_wanted = worker.process.poll() is not None
                self._busy[worker] = client
                return worker
            finally:
                self._waiting.remove(me)
                self._news.notify_all()

    def _want_one(self, client: str) -> None:
        """End the latest task of who has several processes while others wait; it is begun again."""
        ((other, several),) = Counter(self._busy.values()).most_common(1) or (("", 0),)
        if several > 1 and client not in self._busy.values():
            worker = [worker for worker, each in self._busy.items() if each == other][-1]
            worker.is_wanted = True
            worker.process.kill()

    def _next(self) -> _Waiting | None:
        now_s, held = time.monotonic(), Counter(self._busy.values())
        self._slow = {client: until for client, until in self._slow.items() if until > now_s}
        may = [one for one in self._waiting if not (one.client in self._slow and held[one.client])]
        return min(may, key=lambda one: (held[one.client], one.is_large, one.number), default=None)

    def _give_back(self, worker: _Worker, is_alive: bool) -> None:
        with self._news:
            del self._busy[worker]
            is_alive = is_alive and not worker.is_wanted
            if is_alive and not self._is_stopping:
                self._free.append(worker)
            else:
                self._running -= 1
            self._news.notify_all()
        if not is_alive or self._is_stopping:
            worker.end()
            self.start()

    def _launch(self) -> None:
        """Start a process and load the default model; try again until it runs."""
        pause_s, worker = 0.5, None
        while not self._is_stopping:
            try:
                worker = _Worker(self.settings, self._command)
                self.problem = ""
                if self.model:
                    worker.load(self.model)
                break
            except errors.EmotionError as error:  # the model is at fault, not the process
                self.problem = str(error)
                LOG.error("no photo can be read: %s", error)
                break
            except (_Ended, OSError) as error:
                LOG.error("cannot start a process for photos: %s", error or "it ended at once")
                time.sleep(pause_s)
                pause_s = min(MOST_PAUSE_S, 2 * pause_s)
        self._is_known.set()
        with self._news:
            if worker and not self._is_stopping:
                self._free.append(worker)
                self._news.notify_all()
                return
        if worker:
            worker.end()


def _end_all(free: list[_Worker], process: int) -> None:
    """End the processes that are free, unless they belong to the process that forked this one."""
    while free and process == os.getpid():
        free.pop().end()


def _checked(answer: dict, pictures: dict[str, bytes]) -> Answer:
    """Return an answer, or raise the error that it is."""
    if mistake := answer.get("mistake"):
        raise RuntimeError(f"a mistake in the work on a photo:\n{mistake}")
    if name := answer.get("error"):
        kind = getattr(errors, name, None)
        known = (errors.ImageError, errors.ModelError)
        is_known = isinstance(kind, type) and issubclass(kind, known)
        raise (kind if is_known else errors.ImageError)(answer["words"])
    return answer, pictures
