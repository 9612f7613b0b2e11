"""Photos out to workers, answers in: few are under way at a time, and none is lost or doubled.

Where a worker dies, its photos are asked for again one at a time, which finds the one that ends
workers, if one does.
"""

import pickle
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass
from typing import Any

from emotion.batch.executors import NO_START, Workers
from emotion.batch.worker import PhotoAnswer, PhotoTask, check_worker, recognize_photo
from emotion.errors import EmotionError, SourceError
from emotion.images.folders import PhotoFile

TICK_S = 1.0
"""How often the caller hears that nothing came, to show the time or to stop."""

TWICE_LOST = (
    "expected an answer; received none, twice: the worker ended while it read this photo, because "
    "it crashed, had too little memory or took too long"
)


@dataclass(frozen=True)
class Job:
    """A photo on its way.

    Attributes:
        photo: the photo.
        stamp: size and time of its file before it was read.
        task: what a worker is to do; its answer, where that is known without one.
    """

    photo: PhotoFile
    stamp: tuple[int, int] | None
    task: PhotoTask | PhotoAnswer


Answers = Generator[tuple[Job, PhotoAnswer] | None, None, Any]


def answers(jobs: Iterator[Job], workers: Workers, settings: bytes) -> Answers:
    """Yield each job with its answer as they come, None when nothing came for a while.

    Args:
        jobs: taken when their turn comes, so that few are held at a time.
        workers: where the executors come from.
        settings: pickled `WorkerSettings`.

    Raises:
        ModelError, SourceError: no worker can do it; see `recognize_photo` and `Workers`.
    """
    lost: deque[Job] = deque()
    while True:
        yield from _together(jobs, workers, settings, lost)
        if not lost:
            return
        while lost:
            yield from _one_by_one(lost, workers, settings)


def _together(jobs: Iterator[Job], workers: Workers, settings: bytes, lost: deque[Job]) -> Answers:
    """Yield answers until there are no more jobs or a worker died; add its jobs to `lost`."""
    with workers.opened() as executor:
        yield from _greet(executor, workers, settings)
        pending: dict[Future, Job] = {}
        while True:
            while not lost and len(pending) < workers.in_hand():
                job = next(jobs, None)
                if job is None:
                    break
                if isinstance(job.task, PhotoAnswer):
                    yield job, job.task
                    continue
                try:
                    pending[_submit(executor, recognize_photo, job.task)] = job
                except BrokenExecutor:
                    lost.append(job)
            if not pending:
                return
            done = yield from _wait(pending, workers)
            for future in [future for future in pending if future in done]:
                job, answer = pending.pop(future), _outcome(future, workers)
                if answer is None:
                    lost.append(job)
                else:
                    yield job, answer


def _one_by_one(lost: deque[Job], workers: Workers, settings: bytes) -> Answers:
    """Yield the answers of jobs whose worker died, until one ends its worker again."""
    with workers.opened() as executor:
        yield from _greet(executor, workers, settings)
        while lost:
            job = lost.popleft()
            future = _submit(executor, recognize_photo, job.task)
            yield from _wait([future], workers)
            answer = _outcome(future, workers)
            yield job, answer or PhotoAnswer(problem=TWICE_LOST, is_final=False)
            if answer is None:
                return


def _greet(executor: Executor, workers: Workers, settings: bytes) -> Generator[None, None, None]:
    """Wait until a worker has the model: before that nothing must be touched."""
    future = _submit(executor, check_worker, settings)
    yield from _wait([future], workers)
    if _outcome(future, workers) is None:
        raise SourceError(NO_START)


@dataclass(frozen=True)
class _Call:
    """What pickle replaces by the value of a call when it is loaded."""

    function: Callable
    argument: object

    def __reduce__(self):
        return self.function, (self.argument,)


def _submit(executor: Executor, function: Callable, argument: object) -> Future:
    """Schedule a call as bytes, so that a Dask scheduler need not have this program."""
    return executor.submit(pickle.loads, pickle.dumps(_Call(function, argument)))


def _wait(futures: Iterable[Future], workers: Workers) -> Generator[None, None, set[Future]]:
    """Yield None from time to time until one of the futures is done; return those that are."""
    while True:
        done, _ = wait(futures, TICK_S, FIRST_COMPLETED)
        if done:
            return done
        workers.check()
        yield None


def _outcome(future: Future, workers: Workers):
    """Return what a call returned, None where its worker died."""
    if future.cancelled():
        return None
    error = future.exception()
    if error is None:
        return future.result()
    if workers.is_loss(error):
        return None
    if isinstance(error, EmotionError):
        raise error
    if isinstance(error, ImportError):
        raise SourceError(
            f"expected this program on every worker; one says: {error}: start workers in a "
            "checkout with its environment and PYTHONPATH set to its folder"
        ) from error
    reason = f"expected faces or a known problem; received {type(error).__name__}: {error}"
    return PhotoAnswer(problem=" ".join(reason.split()), is_final=False)
