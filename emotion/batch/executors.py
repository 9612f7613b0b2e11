"""Photos out to workers, answers in: to a pool of processes here, or to a Dask cluster."""

import contextlib
import math
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent import futures
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from emotion.batch.worker import PhotoAnswer, check_worker, recognize_photo
from emotion.errors import EmotionError, SourceError
from emotion.files import available_cpus
from emotion.images.folders import PhotoFile
from emotion.text import first_line

CONNECT_TIMEOUT_S = 10  # how long a scheduler may take to answer, and to have a worker
LAST_PHOTOS_S = 5  # how long the photos in hand may still take when a run is interrupted
ASK_AGAIN_S = 2  # how long the answer of a cluster about its size is believed
MOST_SILENT_S = 60  # how long a cluster may be without any worker in the middle of a run
MOST_WORKERS = 61 if sys.platform == "win32" else 4096  # Windows waits for no more at a time
TICK_S = 1.0  # how often the caller hears that nothing came, to show the time or to stop

NO_START = (
    "expected workers that start; they end before the first photo: use fewer with --workers, or "
    "look for their message above"
)
NO_SCHEDULER = (
    "expected a Dask scheduler such as tcp://host:8786 or tls://host:8786; received {}: {}: `dask "
    "scheduler` starts one and prints its address"
)
NO_WORKER = (
    "expected a worker at {0}; there was none for {1:g} s: start one on each machine with `dask "
    "worker {0}`, and the same command goes on"
)
TWICE_LOST = (
    "expected an answer; the worker ended twice while it read this photo: it crashed, had too "
    "little memory or took too long"
)


class Workers:
    """What a batch must know of an executor of `concurrent.futures`."""

    is_remote = False  # tasks may run on another machine
    sends_files = False  # photos travel with their tasks
    threads: int | None = None  # processors for each photo; None: as the process has it

    opened: Callable[[], contextlib.AbstractContextManager[Executor]]  # after one broke, another
    in_hand: Callable[[], int]  # how many photos may be under way, so that no worker waits

    def check(self) -> None:
        """Raise a `SourceError` where no answer can come any more; a pool says so itself."""


class LocalWorkers(Workers):
    """Processes on this machine; each loads the model once."""

    def __init__(self, count: int | None = None):  # None: one a processor
        self.count = min(count or available_cpus(), MOST_WORKERS)
        # workers that each start a thread a processor take the processors from each other
        self.threads = max(1, available_cpus() // self.count)

    @contextlib.contextmanager
    def opened(self) -> Iterator[Executor]:
        before = set(multiprocessing.active_children())
        context = multiprocessing.get_context("spawn")
        executor = futures.ProcessPoolExecutor(self.count, context, start_worker)
        try:
            yield executor
        finally:
            executor.shutdown(wait=False, cancel_futures=True)
            until_s = time.monotonic() + LAST_PHOTOS_S
            for process in set(multiprocessing.active_children()) - before:
                process.join(max(0.0, until_s - time.monotonic()))
                if process.is_alive():  # on a photo that hangs
                    process.terminate()

    def in_hand(self) -> int:
        return 2 * self.count + 1


def start_worker() -> None:
    """Make a process of a pool leave Ctrl-C to its parent, and end when that was killed."""

    def end_with_parent() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


class ClusterWorkers(Workers):
    """The workers of a Dask cluster; nothing is connected before it is opened."""

    is_remote, threads = True, 1

    def __init__(self, address: str, send_files: bool = False):
        """Take the scheduler's address: tcp://host:8786, or tls:// with Dask's own certificates."""
        self._address, self.sends_files = address, send_files

    @contextlib.contextmanager
    def opened(self) -> Iterator[Executor]:
        try:
            import distributed  # large
        except ImportError as error:
            words = 'expected the package distributed: pip install "dask[distributed]"'
            raise SourceError(words) from error
        try:
            address = urlsplit(self._address)
            if address.scheme not in ("tcp", "tls"):
                raise ValueError("another kind of address")
            place = address.hostname, address.port
            with socket.create_connection(place, CONNECT_TIMEOUT_S) as connection:
                # a scheduler speaks first; without TLS that tells it from a web page as its own
                if address.scheme == "tcp" and not connection.recv(1):
                    raise ConnectionResetError("the connection was closed")
            self._client = distributed.Client(self._address, timeout=CONNECT_TIMEOUT_S)
        except (OSError, ValueError, TypeError) as error:  # the last where TLS has no certificates
            reason = getattr(error, "strerror", None) or first_line(error)
            raise SourceError(NO_SCHEDULER.format(self._address, reason)) from error
        with self._client:
            try:
                self._client.wait_for_workers(1, timeout=CONNECT_TIMEOUT_S)
            except TimeoutError as error:
                raise SourceError(NO_WORKER.format(self._address, CONNECT_TIMEOUT_S)) from error
            self._threads, self._asked_s, self._seen_s = 0, -math.inf, time.monotonic()
            # every photo is a task of its own, also where the same one comes again
            yield self._client.get_executor(pure=False)

    def in_hand(self) -> int:
        return max(4, 3 * self._threads_there())

    def check(self) -> None:
        if self._client.status != "running":
            raise SourceError(NO_SCHEDULER.format(self._address, "it went away"))
        if not self._threads_there() and time.monotonic() - self._seen_s > MOST_SILENT_S:
            raise SourceError(NO_WORKER.format(self._address, MOST_SILENT_S))

    def _threads_there(self) -> int:
        # workers come and go; to ask before each photo would take as long as a small one
        now_s = time.monotonic()
        if now_s - self._asked_s > ASK_AGAIN_S:
            self._threads, self._asked_s = 0, now_s
            with contextlib.suppress(OSError):  # distributed's CommClosedError is one
                self._threads = sum(self._client.nthreads().values())
        if self._threads:
            self._seen_s = now_s
        return self._threads


@dataclass(frozen=True)
class Job:  # a photo on its way
    photo: PhotoFile
    stamp: list[int] | None  # size and time of its file before it was read
    task: tuple | PhotoAnswer  # for `recognize_photo`, or the answer that is known without it


Answers = Generator[tuple[Job, PhotoAnswer] | None, None, Any]


def answers(jobs: Iterator[Job], workers: Workers, settings: bytes) -> Answers:
    """Yield each job with its answer, none lost or doubled; None when nothing came for a while."""
    while lost := deque((yield from _round(jobs, workers, settings, workers.in_hand))):
        while lost:
            # one at a time, which finds the photo that ends workers, if one does
            again = (lost.popleft() for _ in range(len(lost)))
            for job in (yield from _round(again, workers, settings, lambda: 1)):
                yield job, PhotoAnswer(problem=TWICE_LOST, is_final=False)


def _round(jobs: Iterator[Job], workers: Workers, settings: bytes, most: Callable) -> Answers:
    """Yield answers until there are no more jobs or a worker died; return what it had in hand."""
    lost: list[Job] = []
    with workers.opened() as executor:
        # before a worker has the model nothing must be touched
        pending: dict[Future, Job | None] = {_submit(executor, check_worker, settings): None}
        while pending:
            done = futures.wait(pending, TICK_S, futures.FIRST_COMPLETED).done
            if not done:
                workers.check()
                yield None
            for future in [future for future in pending if future in done]:  # as they were sent
                job, answer = pending.pop(future), _outcome(future)
                if job and answer is not None:
                    yield job, answer
                elif job:
                    lost.append(job)
                elif answer is None:
                    raise SourceError(NO_START)
            while done and not lost and len(pending) < most() and (job := next(jobs, None)):
                if isinstance(job.task, PhotoAnswer):
                    yield job, job.task
                    continue
                try:
                    pending[_submit(executor, recognize_photo, *job.task)] = job
                except futures.BrokenExecutor:
                    lost.append(job)
    return lost


@dataclass(frozen=True)
class _Call:  # becomes, when it is unpickled, what the call returns
    function: Callable
    arguments: tuple

    def __reduce__(self):
        return self.function, self.arguments


def _submit(executor: Executor, function: Callable, *arguments: object) -> Future:
    """Schedule a call as bytes, so that a Dask scheduler need not have this program."""
    with contextlib.ExitStack() as stack:
        if hasattr(signal, "pthread_sigmask"):  # Windows has none
            # a process that starts here inherits that Ctrl-C is held back
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
            stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
        try:
            return executor.submit(pickle.loads, pickle.dumps(_Call(function, arguments)))
        except OSError as error:  # no process can start
            raise SourceError(f"{NO_START} ({error.strerror or error})") from error


def _outcome(future: Future):
    """Return what a call returned, None where its worker died."""
    try:
        return future.result()
    except (futures.BrokenExecutor, futures.CancelledError):
        return None
    except EmotionError:
        raise
    except ImportError as error:
        words = f"expected this program on every worker; one says: {error}: see docs/batch.md"
        raise SourceError(words) from error
    except Exception as error:
        if type(error).__name__ == "KilledWorker":  # Dask's, which need not be installed
            return None
        reason = f"expected faces or a known problem; received {type(error).__name__}: {error}"
        return PhotoAnswer(problem=" ".join(reason.split()), is_final=False)
