"""Many photos to one table: what is done is kept, what is done already is skipped."""

import contextlib
import hashlib
import itertools
import os
import pickle
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from emotion.batch.dispatch import Answers, Job, answers
from emotion.batch.executors import Workers
from emotion.batch.outputs import BatchOutputs, Tables, copy_path
from emotion.batch.store import Record, Store, stamp_of
from emotion.batch.worker import (
    PhotoAnswer,
    PhotoTask,
    WorkerSettings,
    may_change,
    portable_stem,
    write_copy,
)
from emotion.detection.haar import FaceDetector
from emotion.errors import ImageError
from emotion.images.decoding import read_content
from emotion.images.folders import PhotoFile
from emotion.images.guards import DEFAULT_LIMITS, ImageLimits
from emotion.model.runtime import EmotionModel, load_model
from emotion.recognizer import DEFAULT_MODEL, Detector
from emotion.rows import photo_columns

SCHEMA = 1
"""Version of what is kept of a photo; after a change of it every photo is done again."""

PROBLEMS_TOLD = 5


@dataclass(frozen=True)
class BatchSettings:
    """How photos are recognized.

    Attributes:
        model: stem of the model's files.
        make_detector: makes what finds the faces; it is pickled, so a class or a partial of one.
        again: photos that are done and unchanged are done again.
        photo_timeout_s: a worker ends itself when a photo takes longer; None: never.
        limits: photos beyond them are refused.
    """

    model: Path = DEFAULT_MODEL
    make_detector: Callable[[], Detector] = FaceDetector
    again: bool = False
    photo_timeout_s: float | None = 300.0
    limits: ImageLimits = DEFAULT_LIMITS


@dataclass(frozen=True)
class BatchProgress:
    """How far a batch is; all numbers count skipped photos too.

    Attributes:
        total: photos in all.
        done: photos with an answer, now or from an earlier run.
        faces: faces in those that are done.
        problems: photos that could not be read.
        skipped: photos done in an earlier run and unchanged.
    """

    total: int
    done: int = 0
    faces: int = 0
    problems: int = 0
    skipped: int = 0

    @property
    def is_complete(self) -> bool:
        return self.done == self.total


@dataclass(frozen=True)
class BatchReport(BatchProgress):
    """What a batch came to.

    Attributes:
        gone: photos of an earlier run that are no longer in the folders of this one; their rows are
            left out.
        seconds: how long it took.
        notes: what a user should know.
        first_problems: the first few photos that could not be read in this run, as (name, reason).
    """

    gone: int = 0
    seconds: float = 0.0
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
        ModelError: the model cannot be loaded, or a worker has another one.
        SourceError: there is nothing to write to, or no worker to do it.
        TableError: a table cannot be written, or holds other photos made with other settings.
    """
    outputs.prepare(photos)
    model = load_model(settings.model)
    roots = {photo.root: photo.root.resolve() for photo in photos if photo.root is not None}
    first_root = next(iter(roots.values()), None)
    with Store(outputs.store, _identity(model, settings), first_root) as store:
        named = []
        for photo in photos:
            place = roots.get(photo.root, Path()) / photo.name
            name = _name_below(store.root, place) + "/" * photo.name.endswith("/")
            named.append(replace(photo, name=name))
        folders = {roots.get(photo.root, photo.path.parent) for photo in photos}
        gone = _gone(store, {photo.name for photo in named}, folders)
        run = _Run(named, gone, outputs, settings, workers, model, store)
        return run.go(on_progress or (lambda progress: None), on_photo or (lambda *photo: None))


def _name_below(root: Path | None, place: Path) -> str:
    """Return the path of a photo below a folder; the whole path where it is elsewhere."""
    is_below = root is not None and place.is_relative_to(root)
    return (place.relative_to(root) if is_below else place).as_posix()


def _gone(store: Store, names: Collection[str], folders: set[Path]) -> set[str]:
    """Return the names of earlier photos below some folders that are not there any more.

    Args:
        store: knows the earlier photos.
        names: the photos that were found, also by their links.
        folders: those of this run; what is elsewhere may be on a disk that is not plugged in.
    """
    gone = set()
    for name in store.names() - names:
        place = (store.root or Path()) / name
        if not folders.isdisjoint(place.parents):
            real = _name_below(store.root, Path(os.path.realpath(place)))
            # a name with / at its end is a folder that could not be opened
            if name.endswith("/") or stamp_of(place) is None or real in names:
                gone.add(name)
    return gone


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
        store: Store,
    ):
        self._start_s = time.monotonic()
        self._photos, self._outputs, self._settings = photos, outputs, settings
        self._workers, self._model, self._store = workers, model, store
        names = {photo.name for photo in photos}
        self._others, self._gone = store.start(names, gone, settings.again), len(gone)
        self._names = names.union(self._others)
        self._progress = BatchProgress(len(photos))
        self._first_problems: list[tuple[str, str]] = []
        self._worker_settings = pickle.dumps(
            WorkerSettings(
                model=portable_stem(settings.model),
                model_sha256=model.sha256,
                make_detector=settings.make_detector,
                threads=workers.threads,
                photo_timeout_s=settings.photo_timeout_s,
                limits=settings.limits,
                is_remote=workers.is_remote,
            )
        )
        metadata = {"model": model.name, "model_sha256": model.sha256}
        columns = photo_columns(model.class_names)
        self._tables = Tables(outputs.tables, columns, store, metadata)

    def go(self, on_progress, on_photo) -> BatchReport:
        """Do what is not done, and bring the tables up to date."""
        kept, left = self._divided()
        if not left:
            return self._report(() if self._is_up_to_date() else self._finish())
        self._store.forget(photo.name for photo in left)
        on_progress(self._progress)
        jobs = map(self._job, left)
        with contextlib.closing(answers(jobs, self._workers, self._worker_settings)) as answered:
            # until a worker answers nothing is touched: it may have another model, or not be there
            for first in answered:
                if first is not None:
                    every = itertools.chain([first], answered)
                    return self._report(self._filled(kept, every, on_progress, on_photo))
                if on_progress(self._progress) is False:
                    break
        return self._report(())

    def _divided(self) -> tuple[list[str], list[PhotoFile]]:
        """Return the names of photos that are done and unchanged, and the other photos."""
        kept, left = [], []
        for photo in self._photos:
            record, copy = self._store.find(photo.name), self._copy_of(photo)
            if (
                record is not None
                and record.is_final
                and record.stamp == stamp_of(photo.path)
                and (copy is None or record.problem or (record.has_copy and copy.exists()))
            ):
                self._count(record, skipped=1)
                kept.append(photo.name)
            else:
                left.append(photo)
        return kept, left

    def _count(self, record: Record, skipped: int = 0) -> None:
        self._progress = replace(
            self._progress,
            done=self._progress.done + 1,
            faces=self._progress.faces + len(record.faces),
            problems=self._progress.problems + (record.problem is not None),
            skipped=self._progress.skipped + skipped,
        )

    def _is_up_to_date(self) -> bool:
        """True if all tables are those of exactly these photos."""
        tables = self._outputs.tables
        return (
            self._store.tables_are_current
            and not self._gone
            and all(table.exists() for table in tables)
            and all(self._store.held_by(table) == len(self._names) for table in tables)
        )

    def _filled(self, kept: list[str], answered: Answers, on_progress, on_photo):
        """Fill the tables with answers; return those that keep what they held before."""
        try:
            with self._tables.growing([*self._others, *kept], len(self._names)):
                for each in answered:
                    if each is not None:
                        self._keep(*each, on_photo)
                    if on_progress(self._progress) is False:
                        break
        finally:
            held_back = self._finish()
        return held_back

    def _job(self, photo: PhotoFile) -> Job:
        """Return what is to be done for a photo, whose bytes are read here if they travel."""
        stamp, content = stamp_of(photo.path), None
        if photo.problem is not None:
            return Job(photo, stamp, PhotoAnswer(problem=photo.problem, is_final=False))
        if self._workers.sends_files:
            try:
                content = read_content(photo.path, self._settings.limits)
            except ImageError as error:
                answer = PhotoAnswer(problem=str(error), is_final=not may_change(error))
                return Job(photo, stamp, answer)
        copy, copies = self._copy_of(photo), self._outputs.copies
        if copy and not copy.parent.resolve().is_relative_to(copies.resolve()):
            # a link below the folder leads to other photos
            reason = f"expected a folder below {copies} for the annotated copy; {copy.parent} "
            return Job(
                photo, stamp, PhotoAnswer(problem=f"{reason}leads elsewhere", is_final=False)
            )
        task = PhotoTask(self._worker_settings, photo.path.absolute(), content, copy)
        return Job(photo, stamp, task)

    def _keep(self, job: Job, answer: PhotoAnswer, on_photo) -> None:
        """Write down what came of a photo, in the store first."""
        if answer.copy is not None:
            try:
                write_copy(self._copy_of(job.photo), answer.copy)
            except ImageError as error:
                answer = PhotoAnswer(problem=str(error), is_final=False)
        record = Record(
            name=job.photo.name,
            stamp=job.stamp,
            faces=tuple(answer.results["faces"]) if answer.results else (),
            problem=answer.problem,
            is_final=answer.is_final,
            has_copy=answer.results is not None and self._outputs.copies is not None,
        )
        self._store.add(record)
        self._tables.write(record)
        self._count(record)
        if record.problem is not None and len(self._first_problems) < PROBLEMS_TOLD:
            self._first_problems.append((record.name, record.problem))
        on_photo(record.name, answer.problem or answer.results)

    def _finish(self) -> tuple[Path, ...]:
        """Write the tables in the order of the photos; return those that keep what they held."""
        names = sorted(self._names, key=lambda name: name.split("/"))
        return self._tables.finish(names, len(self._others) + self._progress.done)

    def _report(self, held_back: tuple[Path, ...]) -> BatchReport:
        notes = [f"{self._model.name}: {note}" for note in self._model.notes]
        if self._others:
            notes.append(f"photos of other sources that stay in the table: {len(self._others):,}")
        notes += [
            f"{table} still holds what it held before: the same command goes on and then replaces "
            "it"
            for table in held_back
        ]
        return BatchReport(
            **asdict(self._progress),
            gone=self._gone,
            seconds=time.monotonic() - self._start_s,
            notes=tuple(notes),
            first_problems=tuple(self._first_problems),
        )

    def _copy_of(self, photo: PhotoFile) -> Path | None:
        """Return where the annotated copy of a photo goes, None where none is made."""
        copies = self._outputs.copies
        return None if copies is None else copy_path(copies.absolute(), photo.name, self._names)
