"""Photos out to workers, answers in: few are under way at a time, and none is lost or doubled."""

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

TICK_S = 1.0  # how often the caller hears that nothing came, to show the time or to stop

TWICE_LOST = (
    "expected an answer; received none, twice: the worker ended while it read this photo, because "
    "it crashed, had too little memory or took too long"
)


@dataclass(frozen=True)
class Job:
    """A photo on its way."""

    photo: PhotoFile
    stamp: tuple[int, int] | None  # size and time of its file before it was read
    task: PhotoTask | PhotoAnswer  # the answer, where that is known without a worker


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
    while lost := deque((yield from _round(jobs, workers, settings, workers.in_hand))):
        while lost:
            # one at a time, which finds the photo that ends workers, if one does
            again = (lost.popleft() for _ in range(len(lost)))
            for job in (yield from _round(again, workers, settings, lambda: 1)):
                yield job, PhotoAnswer(problem=TWICE_LOST, is_final=False)


def _round(
    jobs: Iterator[Job], workers: Workers, settings: bytes, most: Callable[[], int]
) -> Answers:
    """Yield answers until there are no more jobs or a worker died; return those that it had."""
    lost: list[Job] = []
    pending: dict[Future, Job] = {}
    with workers.opened() as executor:
        # before a worker has the model nothing must be touched
        ready = _submit(executor, check_worker, settings)
        yield from _wait([ready], workers)
        if _outcome(ready, workers) is None:
            raise SourceError(NO_START)
        while True:
            while not lost and len(pending) < most() and (job := next(jobs, None)):
                if isinstance(job.task, PhotoAnswer):
                    yield job, job.task
                    continue
                try:
                    pending[_submit(executor, recognize_photo, job.task)] = job
                except BrokenExecutor:
                    lost.append(job)
            if not pending:
                return lost
            done = yield from _wait(pending, workers)
            for future in [future for future in pending if future in done]:  # as they were sent
                job, answer = pending.pop(future), _outcome(future, workers)
                if answer is None:
                    lost.append(job)
                else:
                    yield job, answer


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
    while not (done := wait(futures, TICK_S, FIRST_COMPLETED).done):
        workers.check()
        yield None
    return done


def _outcome(future: Future, workers: Workers):
    """Return what a call returned, None where its worker died."""
    error = None if future.cancelled() else future.exception()
    if future.cancelled() or workers.is_loss(error):
        return None
    if error is None:
        return future.result()
    if isinstance(error, EmotionError):
        raise error
    if isinstance(error, ImportError):
        raise SourceError(
            f"expected this program on every worker; one says: {error}: start workers in a "
            "checkout with its environment and PYTHONPATH set to its folder"
        ) from error
    reason = f"expected faces or a known problem; received {type(error).__name__}: {error}"
    return PhotoAnswer(problem=" ".join(reason.split()), is_final=False)
