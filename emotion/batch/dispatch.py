"""Photos out to workers, answers in: few are under way at a time, and none is lost or doubled.

Written against `concurrent.futures.Executor` alone. Where a worker dies, the photos under way are
asked for again one at a time, which finds the one that ends workers, if one does.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass

from emotion.batch.journal import Stamp
from emotion.batch.tasks import PhotoAnswer, PhotoTask, check_worker, recognize_photo
from emotion.batch.workers import NO_START, Workers
from emotion.errors import EmotionError, SourceError
from emotion.images.folders import PhotoFile

TICK_S = 1.0
"""How often the caller hears that nothing came, to show the time or to stop."""


@dataclass(frozen=True)
class Job:
    """A photo on its way.

    Attributes:
        photo: the photo.
        stamp: of its file before it was read.
        task: what a worker is to do; its answer, where that is known without one.
    """

    photo: PhotoFile
    stamp: Stamp | None
    task: PhotoTask | PhotoAnswer


Answers = Iterator[tuple[Job, PhotoAnswer] | None]


class Dispatcher:
    """Gives photos to workers."""

    def __init__(self, workers: Workers, settings: bytes, make_job: Callable[[PhotoFile], Job]):
        """Take what recognizes photos and what makes tasks of them.

        Args:
            workers: where the executors come from.
            settings: pickled `WorkerSettings`.
            make_job: called for each photo when its turn comes, so that few are held at a time.
        """
        self._workers, self._settings, self._make_job = workers, settings, make_job

    def answers(self, photos: Iterable[PhotoFile]) -> Answers:
        """Yield each photo's job and answer as they come, None when nothing came for a while.

        Raises:
            ModelError, SourceError: no worker can do it; see `recognize_photo` and `Workers`.
        """
        left = map(self._make_job, photos)
        while True:
            with self._workers.opened() as executor:
                yield from self._greeted(executor)
                lost = yield from self._together(executor, left)
            if not lost:
                return
            yield from self._one_by_one(lost)

    def _greeted(self, executor: Executor) -> Generator[None, None, None]:
        """Wait until a worker has the right model and program.

        Raises:
            SourceError: workers end before they are ready.
        """
        future = executor.submit(check_worker, self._settings)
        yield from self._ticks({future})
        if self._outcome(future) is None:
            raise SourceError(NO_START)

    def _together(
        self, executor: Executor, jobs: Iterator[Job]
    ) -> Generator[tuple[Job, PhotoAnswer] | None, None, list[Job]]:
        """Yield answers until there are no more jobs or a worker died; return the lost jobs."""
        pending: dict[Future, Job] = {}
        lost: list[Job] = []
        while True:
            if not lost:
                yield from self._fill(executor, jobs, pending, lost)
            if not pending:
                return lost
            done = yield from self._ticks(pending.keys())
            for future in [future for future in pending if future in done]:
                job, answer = pending.pop(future), self._outcome(future)
                if answer is None:
                    lost.append(job)
                else:
                    yield job, answer

    def _fill(
        self, executor: Executor, jobs: Iterator[Job], pending: dict[Future, Job], lost: list[Job]
    ) -> Answers:
        """Hand out jobs until enough are under way; yield those that need no worker."""
        while len(pending) < self._workers.in_hand() and not lost:
            job = next(jobs, None)
            if job is None:
                return
            if isinstance(job.task, PhotoAnswer):
                yield job, job.task
                continue
            try:
                pending[executor.submit(recognize_photo, job.task)] = job
            except BrokenExecutor:
                lost.append(job)

    def _one_by_one(self, lost: list[Job]) -> Answers:
        """Yield the answers of jobs whose worker died; one that ends another has a problem."""
        left = deque(lost)
        while left:
            with self._workers.opened() as executor:
                yield from self._greeted(executor)
                is_whole = True
                while left and is_whole:
                    job = left.popleft()
                    future = executor.submit(recognize_photo, job.task)
                    yield from self._ticks({future})
                    answer = self._outcome(future)
                    is_whole = answer is not None
                    yield job, answer or PhotoAnswer(problem=TWICE_LOST, is_final=False)

    def _ticks(self, futures: Iterable[Future]) -> Generator[None, None, set[Future]]:
        """Yield None from time to time until one of the futures is done; return those that are."""
        while True:
            done, _ = wait(futures, TICK_S, FIRST_COMPLETED)
            if done:
                return done
            self._workers.check()
            yield None

    def _outcome(self, future: Future):
        """Return what a call returned, None where its worker died.

        Raises:
            EmotionError: no worker could do better.
        """
        if future.cancelled():
            return None
        error = future.exception()
        if error is None:
            return future.result()
        if self._workers.is_loss(error):
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


TWICE_LOST = (
    "expected an answer; received none, twice: the worker ended while it read this photo, because "
    "it crashed, had too little memory or took too long"
)
