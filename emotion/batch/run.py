"""Many photos to one table: what is done is kept, what is done already is skipped."""

import contextlib
import hashlib
import os
import pickle
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from emotion.batch.executors import Job, Workers, answers
from emotion.batch.outputs import BatchOutputs, Record, Store, Tables, copy_path, opened_store
from emotion.batch.worker import BatchSettings, PhotoAnswer, WorkerSettings, is_final, portable_stem
from emotion.errors import ImageError, TableError
from emotion.files import whole_file
from emotion.images.decoding import read_content
from emotion.images.folders import PhotoFile
from emotion.images.guards import DEFAULT_LIMITS
from emotion.model.runtime import EmotionModel, load_model
from emotion.rows import photo_columns

SCHEMA = 1  # of what is kept of a photo; after a change of it every photo is done again
PROBLEMS_TOLD = 5


@dataclass(frozen=True)
class BatchProgress:  # how far a batch is; all numbers count skipped photos too
    total: int
    done: int = 0  # photos with an answer, now or from an earlier run
    faces: int = 0
    problems: int = 0  # photos that could not be read
    skipped: int = 0  # photos done in an earlier run and unchanged


@dataclass(frozen=True)
class BatchReport(BatchProgress):  # what a batch came to
    gone: int = 0  # photos of an earlier run that are no longer in the folders of this one
    seconds: float = 0.0
    notes: tuple[str, ...] = ()  # what a user should know
    first_problems: tuple[tuple[str, str], ...] = ()  # names of photos of this run, and reasons


def run_batch(
    photos: Sequence[PhotoFile],
    outputs: BatchOutputs,
    settings: BatchSettings,
    workers: Workers,
    on_progress: Callable[[BatchProgress], bool | None] = lambda progress: None,
    on_photo: Callable[[str, dict | str], None] = lambda name, results: None,
) -> BatchReport:
    """Recognize photos and write what is found as it comes; skip those that are done.

    A table that began with photos of another folder keeps their rows, and calls photos outside of
    that folder by their whole paths. `on_progress` is called about every second too, and stops the
    run by False; `on_photo` gets the results (see `results_to_dict`) or why there are none. Raises
    ModelError, SourceError, or TableError, also where a table holds photos of other settings.
    """
    start_s = time.monotonic()
    outputs.prepare(photos)
    model = load_model(settings.model)
    with opened_store(outputs.store) as store:
        run = _Run(photos, outputs, settings, workers, model, store)
        held_back = run.go(on_progress, on_photo)
    notes = [f"{model.name}: {note}" for note in model.notes]
    if run.others:
        notes.append(f"photos of other sources that stay in the table: {len(run.others):,}")
    held = "still holds what it held before: the same command goes on and then replaces it"
    notes += [f"{table} {held}" for table in held_back]
    told = {"notes": tuple(notes), "first_problems": tuple(run.first_problems)}
    told |= {"gone": len(run.gone), "seconds": time.monotonic() - start_s}
    return BatchReport(**vars(run.progress), **told)


class _Run:
    """One run of a batch: its photos under the names of the store, and what is done so far."""

    def __init__(self, photos, outputs, settings, workers, model: EmotionModel, store: Store):
        self.outputs, self.workers, self.store = outputs, workers, store
        self.counts, self.first_problems = Counter(), []
        roots = {photo.root: photo.root.resolve() for photo in photos if photo.root is not None}
        root = store.facts.get("root", next(iter(roots.values()), None))
        self.root = root and Path(root)
        self.photos = []
        for photo in photos:
            name = self.name_of(roots.get(photo.root, Path()) / photo.name)
            # a name with / at its end is a folder that could not be opened
            self.photos.append(replace(photo, name=name + "/" * photo.name.endswith("/")))
        own = {photo.name for photo in self.photos}
        earlier = store.names() - own
        folders = {roots.get(photo.root, photo.path.parent) for photo in photos}
        self.gone = {name for name in earlier if self.is_gone(name, own, folders)}
        self.others = earlier - self.gone
        self.names = own | self.others
        # equal detectors pickle alike; where they should not, photos are done once too often
        detector = settings.make_detector()
        searched = hashlib.sha256(pickle.dumps(detector)).hexdigest()
        identity = {"schema": SCHEMA, "model": model.name, "model_sha256": model.sha256}
        identity["card"] = hashlib.sha256(repr(model.card).encode()).hexdigest()
        identity |= {"detector": f"{type(detector).__name__} {searched}"}
        identity["limits"] = repr(DEFAULT_LIMITS)
        is_otherwise = store.facts.get("settings") != identity
        if self.others and is_otherwise:
            raise TableError(
                f"expected the model and detector of {outputs.store}, which holds photos of other "
                "sources; received others: name another table, or give all sources in one command"
            )
        store.forget(own if settings.again or is_otherwise else self.gone)
        if is_otherwise:
            root = self.root and str(self.root)
            store.set(settings=identity, root=root, tables_are_current=False)
        how = vars(settings) | {"model": portable_stem(settings.model)}
        how |= {"model_sha256": model.sha256, "threads": workers.threads}
        self.worker_settings = pickle.dumps(WorkerSettings(**how, is_remote=workers.is_remote))
        metadata = {"model": model.name, "model_sha256": model.sha256}
        self.tables = Tables(outputs, photo_columns(model.class_names), metadata, store)

    def name_of(self, place: Path) -> str:
        # below the folder of the first source, or else whole: equal names are told apart
        is_below = self.root is not None and place.is_relative_to(self.root)
        return (place.relative_to(self.root) if is_below else place).as_posix()

    def is_gone(self, name: str, own: set[str], folders: set[Path]) -> bool:
        # what is in folders other than these may be on a disk that is not plugged in
        place = (self.root or Path()) / name
        return not folders.isdisjoint(place.parents) and (
            name.endswith("/")
            or _stamp_of(place) is None
            or self.name_of(Path(os.path.realpath(place))) in own
        )

    def go(self, on_progress: Callable, on_photo: Callable) -> Sequence[Path]:
        """Do what is not done; return the tables that still hold what they held before."""
        left = [photo for photo in self.photos if not self.is_done(photo)]
        if not left:
            is_current = not self.gone and self.tables.are_current(len(self.names))
            return () if is_current else self.finish()
        left_names = {photo.name for photo in left}
        self.store.forget(left_names)
        on_progress(self.progress)
        held_back, write = [], None
        with contextlib.ExitStack() as stack:
            answered = answers(map(self.job, left), self.workers, self.worker_settings)
            stack.enter_context(contextlib.closing(answered))
            for each in answered:
                if each is not None:
                    if write is None:  # until a worker answers nothing is touched
                        stack.callback(lambda: held_back.extend(self.finish()))
                        growing = self.tables.growing(self.names - left_names, len(self.names))
                        write = stack.enter_context(growing)
                    record = self.keep(*each)
                    write(record)
                    on_photo(record.name, record.problem or each[1].results)
                if on_progress(self.progress) is False:
                    break
        return held_back

    @property
    def progress(self) -> BatchProgress:
        return BatchProgress(len(self.photos), **self.counts)

    def is_done(self, photo: PhotoFile) -> bool:
        """Count a photo that is done and unchanged."""
        record, copy = self.store.find(photo.name), self.copy_of(photo)
        if not (record and record.is_final and record.stamp == _stamp_of(photo.path)):
            return False
        if copy and not record.problem and not (record.has_copy and copy.exists()):
            return False
        self.count(record, skipped=1)
        return True

    def count(self, record: Record, **more: int) -> None:
        problems = record.problem is not None
        self.counts.update(done=1, faces=len(record.faces), problems=problems, **more)

    def job(self, photo: PhotoFile) -> Job:
        """Return what is to be done for a photo, whose bytes are read here if they travel."""
        stamp, content, copy = _stamp_of(photo.path), None, self.copy_of(photo)
        problem, lasts = photo.problem, False
        if problem is None and self.workers.sends_files:
            try:
                content = read_content(photo.path)
            except ImageError as error:
                problem, lasts = str(error), is_final(error)
        if problem is not None:
            return Job(photo, stamp, PhotoAnswer(problem=problem, is_final=lasts))
        suffix = copy and copy.suffix
        return Job(photo, stamp, (self.worker_settings, photo.path.absolute(), content, suffix))

    def keep(self, job: Job, answer: PhotoAnswer) -> Record:
        if answer.copy is not None:
            copy = self.copy_of(job.photo)
            try:
                # a link below the folder for copies may lead to other photos
                if not copy.parent.resolve().is_relative_to(self.outputs.copies.resolve()):
                    raise OSError("its folder is elsewhere")
                copy.parent.mkdir(parents=True, exist_ok=True)
                with whole_file(copy) as part:
                    part.write_bytes(answer.copy)
            except OSError as error:
                problem = f"expected a place for the annotated copy; received {copy}: {error}"
                answer = PhotoAnswer(problem=problem, is_final=False)
        faces = answer.results["faces"] if answer.results else ()
        name, problem, has_copy = job.photo.name, answer.problem, answer.copy is not None
        record = Record(name, job.stamp, faces, problem, answer.is_final, has_copy)
        self.store.add(record)
        self.count(record)
        if problem is not None and len(self.first_problems) < PROBLEMS_TOLD:
            self.first_problems.append((name, problem))
        return record

    def finish(self) -> tuple[Path, ...]:
        names = sorted(self.names, key=lambda name: name.split("/"))
        return self.tables.finish(names, len(self.others) + self.counts["done"])

    def copy_of(self, photo: PhotoFile) -> Path | None:
        copies = self.outputs.copies
        return None if copies is None else copy_path(copies.absolute(), photo.name, self.names)


def _stamp_of(path: Path) -> list[int] | None:
    """Return size and time of change of a file, in ns; None where it cannot be seen."""
    with contextlib.suppress(OSError, ValueError):
        status = path.stat()
        return [status.st_size, status.st_mtime_ns]
