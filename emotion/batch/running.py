"""Many photos to one table: what is done is kept, what is done already is skipped."""

import contextlib
import hashlib
import itertools
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emotion.batch.dispatch import Answers, Dispatcher, Job
from emotion.batch.journal import Journal, Record, Stamp
from emotion.batch.outputs import BatchOutputs, Tables, copy_path, link_problem, photo_columns
from emotion.batch.tasks import (
    PhotoAnswer,
    PhotoTask,
    WorkerSettings,
    code_sha256,
    may_change,
    portable_stem,
    write_copy,
)
from emotion.batch.workers import Workers
from emotion.detection.haar import FaceDetector
from emotion.errors import ImageError
from emotion.images.decoding import read_content
from emotion.images.folders import PhotoFile
from emotion.images.guards import DEFAULT_LIMITS, ImageLimits
from emotion.model.runtime import EmotionModel, load_model
from emotion.recognizer import DEFAULT_MODEL, Detector

SCHEMA = 1
"""Version of what is kept of a photo; after a change of it every photo is done again."""

PROBLEMS_TOLD = 5
RATE_WINDOW_S = 30.0
"""The rate is that of so long."""


@dataclass(frozen=True)
class BatchSettings:
    """How photos are recognized.

    Attributes:
        model: stem of the model's files.
        make_detector: gives what finds the faces; it is pickled, so a class or a partial of one.
        again: photos that are done and unchanged are done again.
        photo_timeout_s: how long a worker may take for a photo before it ends itself.
        limits: what is refused.
    """

    model: Path = DEFAULT_MODEL
    make_detector: Callable[[], Detector] = FaceDetector
    again: bool = False
    photo_timeout_s: float = 300.0
    limits: ImageLimits = DEFAULT_LIMITS


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is; all numbers count skipped photos too, but for the rate.

    Attributes:
        done: photos with an answer.
        total: photos in all.
        faces: faces in those that are done.
        problems: photos that could not be read.
        skipped: photos done in an earlier run and unchanged.
        rate: photos a second, lately; 0 before the first.
        left_s: seconds that the rest will take, None where that is not known yet.
    """

    done: int
    total: int
    faces: int
    problems: int
    skipped: int
    rate: float
    left_s: float | None

    @property
    def share(self) -> float:
        """Return how much is done, 0 to 1."""
        return self.done / self.total if self.total else 1.0


@dataclass(frozen=True)
class BatchReport:
    """What a batch came to.

    Attributes:
        photos: how many there are.
        done: those with an answer, now or from an earlier run.
        faces: faces in those.
        problems: those that could not be read.
        skipped: those done in an earlier run and unchanged.
        gone: photos of an earlier run that are no longer in the folders of this one; their rows are
            left out.
        seconds: how long it took.
        is_complete: whether every photo has an answer.
        notes: what a user should know.
        first_problems: the first few that could not be read in this run, as (name, reason).
    """

    photos: int
    done: int
    faces: int
    problems: int
    skipped: int
    gone: int
    seconds: float
    is_complete: bool
    notes: tuple[str, ...] = ()
    first_problems: tuple[tuple[str, str], ...] = ()


def run_batch(
    photos: Sequence[PhotoFile],
    outputs: BatchOutputs,
    settings: BatchSettings,
    workers: Workers,
    on_progress: Callable[[BatchProgress], bool | None] | None = None,
    on_photo: Callable[[str, dict | str], None] | None = None,
) -> BatchReport:
    """Recognize photos and write what is found as it comes; skip those that are done.

    Args:
        photos: from `find_photos`; each has a name of its own. A table that began with photos of
            another folder keeps their rows, and calls those outside of it by their whole paths.
        outputs: what is written.
        settings: how photos are recognized.
        workers: `LocalWorkers`, `ClusterWorkers`, or another source of executors.
        on_progress: called after each photo and about every second; False stops the run, and what
            is done is kept.
        on_photo: called for each photo done in this run, in the order in which they are done, with
            its name and its results, see `results_to_dict`, or the reason why there are none.

    Raises:
        ModelError: the model cannot be loaded, or a worker has another one or another program.
        SourceError: there is nothing to write to, or no worker to do it.
        TableError: a table cannot be written, or holds other photos made with other settings.
    """
    outputs.prepare(photos)
    model = load_model(settings.model)
    identity = _identity(model, settings)
    roots = {photo.root: photo.root.resolve() for photo in photos if photo.root is not None}
    with Journal(outputs.journal, identity, next(iter(roots.values()), None)) as journal:
        named = []
        for photo in photos:
            place = roots.get(photo.root, Path()) / photo.name
            name = _name_below(journal.root, place) + "/" * photo.name.endswith("/")
            named.append(replace(photo, name=name))
        folders = {roots.get(photo.root, photo.path.parent) for photo in photos}
        gone = _gone(journal, {photo.name for photo in named}, folders)
        run = _Run(named, gone, outputs, settings, workers, model, journal)
        return run.go(on_progress or _nobody, on_photo or _nobody)


def _name_below(root: Path | None, place: Path) -> str:
    """Return the path of a photo below a folder; the whole path where it is elsewhere."""
    is_below = root is not None and place.is_relative_to(root)
    return (place.relative_to(root) if is_below else place).as_posix()


def _gone(journal: Journal, names: Collection[str], folders: set[Path]) -> set[str]:
    """Return the names of earlier photos below some folders that are not there any more.

    Args:
        journal: knows the earlier photos.
        names: the photos that were found, also by their links.
        folders: those of this run; what is elsewhere may be on a disk that is not plugged in.
    """
    gone = set()
    for name in journal.names() - names:
        place = (journal.root or Path()) / name
        if not folders.isdisjoint(place.parents):
            real = _name_below(journal.root, Path(os.path.realpath(place)))
            # a name with / at its end is a folder that could not be opened
            if name.endswith("/") or Stamp.of(place) is None or real in names:
                gone.add(name)
    return gone


def _nobody(*_) -> None:
    """Hear what nobody wants to."""


def _identity(model: EmotionModel, settings: BatchSettings) -> dict:
    """Return what a photo's answer depends on beside the photo, as plain types."""
    detector = settings.make_detector()
    # equal detectors pickle alike; where they should not, photos are done once too often
    searched = hashlib.sha256(pickle.dumps(detector)).hexdigest()
    return {
        "schema": SCHEMA,
        "model": model.name,
        "model_sha256": model.sha256,
        "card": hashlib.sha256(repr(model.card).encode()).hexdigest(),
        "detector": f"{type(detector).__name__} {searched}",
        "limits": repr(settings.limits),
    }


class _Run:
    """One run of a batch: what is done so far, and how."""

    def __init__(
        self,
        photos: Sequence[PhotoFile],
        gone: Collection[str],
        outputs: BatchOutputs,
        settings: BatchSettings,
        workers: Workers,
        model: EmotionModel,
        journal: Journal,
    ):
        self._photos, self._outputs, self._settings = photos, outputs, settings
        self._workers, self._model, self._journal = workers, model, journal
        names = {photo.name for photo in photos}
        self._others = journal.start(names.union(gone), settings.again)
        self._names = names.union(self._others)
        self._worker_settings = pickle.dumps(self._settings_of_workers())
        self._meter = Meter(len(photos))
        self._first_problems: list[tuple[str, str]] = []
        self._gone = len(gone)
        metadata = {"model": model.name, "model_sha256": model.sha256}
        columns = photo_columns(model.class_names)
        self._tables = Tables(outputs.tables, columns, journal, metadata)

    def go(self, on_progress, on_photo) -> BatchReport:
        """Do what is not done, and bring the tables up to date."""
        kept, left = self._divided()
        if not left:
            return self._report(() if self._is_up_to_date() else self._finish())
        self._journal.forget(photo.name for photo in left)
        on_progress(self._meter.progress())
        dispatcher = Dispatcher(self._workers, self._worker_settings, self._job)
        with contextlib.closing(dispatcher.answers(left)) as answers:
            # until a worker answers nothing is touched: it may have another model, or not be there
            for first in answers:
                if first is not None:
                    return self._report(self._filled(kept, first, answers, on_progress, on_photo))
                if on_progress(self._meter.progress()) is False:
                    break
        return self._report(())

    def _filled(self, kept: list[str], first, answers: Answers, on_progress, on_photo):
        """Fill the tables with answers; return those that keep what they held before."""
        try:
            with self._tables.growing([*self._others, *kept], len(self._names)):
                self._work(itertools.chain([first], answers), on_progress, on_photo)
        finally:
            held_back = self._finish()
        return held_back

    def _divided(self) -> tuple[list[str], list[PhotoFile]]:
        """Return the names of photos that are done and unchanged, and the other photos."""
        kept, left = [], []
        for photo in self._photos:
            if self._is_done(photo):
                entry = self._journal.find(photo.name)
                self._meter.skip(entry.faces, entry.is_problem)
                kept.append(photo.name)
            else:
                left.append(photo)
        return kept, left

    def _is_done(self, photo: PhotoFile) -> bool:
        """Return whether a photo has its rows, and its copy if asked, and did not change."""
        entry = self._journal.find(photo.name)
        if entry is None or not entry.is_final or entry.stamp != Stamp.of(photo.path):
            return False
        copy = self._copy_of(photo)
        return copy is None or entry.is_problem or (entry.has_copy and copy.exists())

    def _is_up_to_date(self) -> bool:
        """Return whether all tables are those of exactly these photos."""
        tables = self._outputs.tables
        return (
            self._journal.is_settled
            and not self._gone
            and all(table.exists() for table in tables)
            and all(self._journal.held_by(table) == len(self._names) for table in tables)
        )

    def _work(self, answers: Answers, on_progress, on_photo) -> None:
        """Write down each answer as it comes."""
        for answered in answers:
            if answered is not None:
                self._keep(*answered, on_photo)
            if on_progress(self._meter.progress()) is False:
                return

    def _job(self, photo: PhotoFile) -> Job:
        """Return what is to be done for a photo, whose bytes are read here if they travel."""
        stamp, content = Stamp.of(photo.path), None
        if photo.problem is not None:
            return Job(photo, stamp, PhotoAnswer(problem=photo.problem, is_final=False))
        if self._workers.sends_files:
            try:
                content = read_content(photo.path, self._settings.limits)
            except ImageError as error:
                return Job(
                    photo, stamp, PhotoAnswer(problem=str(error), is_final=not may_change(error))
                )
        copy = self._copy_of(photo)
        problem = copy and link_problem(self._outputs.copies, copy)
        if problem:
            return Job(photo, stamp, PhotoAnswer(problem=problem, is_final=False))
        task = PhotoTask(self._worker_settings, photo.path.absolute(), content, copy)
        return Job(photo, stamp, task)

    def _keep(self, job: Job, answer: PhotoAnswer, on_photo) -> None:
        """Write down what came of a photo, in the journal first."""
        answer = self._with_copy(job, answer)
        record = Record(
            name=job.photo.name,
            stamp=job.stamp,
            faces=tuple(answer.results["faces"]) if answer.results else (),
            problem=answer.problem,
            is_final=answer.is_final,
            has_copy=answer.results is not None and self._outputs.copies is not None,
        )
        self._journal.add(record)
        self._tables.write(record)
        self._meter.add(len(record.faces), record.problem is not None)
        if record.problem is not None and len(self._first_problems) < PROBLEMS_TOLD:
            self._first_problems.append((record.name, record.problem))
        on_photo(record.name, answer.problem or answer.results)

    def _with_copy(self, job: Job, answer: PhotoAnswer) -> PhotoAnswer:
        """Write the annotated copy that a worker sent; return the answer."""
        if answer.copy is None:
            return answer
        try:
            write_copy(self._copy_of(job.photo), answer.copy)
        except ImageError as error:
            return PhotoAnswer(problem=str(error), is_final=False)
        return answer

    def _finish(self) -> tuple[Path, ...]:
        """Write the tables in the order of the photos; return those that keep what they held."""
        names = sorted(self._names, key=lambda name: name.split("/"))
        done = len(self._others) + self._meter.done
        held_back = self._tables.finish(names, done, len(names))
        if done == len(names):
            self._journal.compact(names, self._outputs.tables)
        return held_back

    def _report(self, held_back: tuple[Path, ...]) -> BatchReport:
        progress = self._meter.progress()
        notes = [f"{self._model.name}: {note}" for note in self._model.notes]
        if self._others:
            notes.append(f"photos of other sources that stay in the table: {len(self._others):,}")
        notes += [
            f"{table} still holds what it held before: the same command goes on and then replaces "
            "it"
            for table in held_back
        ]
        return BatchReport(
            photos=progress.total,
            done=progress.done,
            faces=progress.faces,
            problems=progress.problems,
            skipped=progress.skipped,
            gone=self._gone,
            seconds=self._meter.seconds,
            is_complete=progress.done == progress.total,
            notes=tuple(notes),
            first_problems=tuple(self._first_problems),
        )

    def _copy_of(self, photo: PhotoFile) -> Path | None:
        """Return where the annotated copy of a photo goes, None where none is made."""
        copies = self._outputs.copies
        return None if copies is None else copy_path(copies.absolute(), photo.name, self._names)

    def _settings_of_workers(self) -> WorkerSettings:
        settings, workers = self._settings, self._workers
        return WorkerSettings(
            model=portable_stem(settings.model),
            model_sha256=self._model.sha256,
            code_sha256=code_sha256(),
            make_detector=settings.make_detector,
            threads=workers.threads,
            photo_timeout_s=settings.photo_timeout_s if workers.ends_late_photos else None,
            limits=settings.limits,
            is_remote=workers.is_remote,
        )


class Meter:
    """Counts photos, and tells how fast they come and how long the rest will take."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic):
        self.done = 0
        self._total, self._clock, self._start_s = total, clock, clock()
        self._faces = self._problems = self._skipped = 0
        # (time, photos done in this run), about one a second
        self._marks = deque([(self._start_s, 0)])

    @property
    def seconds(self) -> float:
        """Return how long it has taken."""
        return self._clock() - self._start_s

    def skip(self, faces: int, is_problem: bool) -> None:
        """Count a photo that was done before."""
        self._skipped += 1
        self._count(faces, is_problem)

    def add(self, faces: int, is_problem: bool) -> None:
        """Count a photo that was done now."""
        self._count(faces, is_problem)
        now_s = self._clock()
        if now_s - self._marks[-1][0] >= 1:
            self._marks.append((now_s, self.done - self._skipped))
        while now_s - self._marks[0][0] > RATE_WINDOW_S and len(self._marks) > 2:
            self._marks.popleft()

    def _count(self, faces: int, is_problem: bool) -> None:
        self.done += 1
        self._faces += faces
        self._problems += is_problem

    def progress(self) -> BatchProgress:
        """Return how far the work is."""
        since_s, before = self._marks[0]
        fresh, passed_s = self.done - self._skipped - before, self._clock() - since_s
        rate = fresh / passed_s if passed_s > 0 else 0.0
        left_s = (self._total - self.done) / rate if rate else None
        return BatchProgress(
            done=self.done,
            total=self._total,
            faces=self._faces,
            problems=self._problems,
            skipped=self._skipped,
            rate=rate,
            left_s=left_s,
        )
