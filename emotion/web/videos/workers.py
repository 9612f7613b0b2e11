"""Work on videos outside of requests: threads that take one after another from the queue.

Each video is worked on by a process of its own (`video_job`), which a thread watches: it notes how
far the work is, and ends it when the video was deleted, when it takes too long, or when the app
ends. What was in work when the app ended waits again, and is begun anew by the next process that
takes videos.
"""

import contextlib
import json
import logging
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from emotion.errors import EmotionError
from emotion.files import available_cpus
from emotion.web.database import Database, DatabaseError, VideoCount, day_of
from emotion.web.errors import ChoiceError, sentence
from emotion.web.logs import LOGGER
from emotion.web.models.offered import Models
from emotion.web.settings import PROJECT_FOLDER, Settings
from emotion.web.storage import StorageError, new_id
from emotion.web.videos.files import VideoFiles
from emotion.web.videos.queue import DONE, FAILED, SILENT_S, VideoRow, VideoRows

COMMAND = (sys.executable, "-m", "emotion.web.videos.job")
ENVIRONMENT = tuple(
    "PATH SYSTEMROOT LANG LC_ALL TZ TMPDIR LD_LIBRARY_PATH PYTHONPATH OMP_NUM_THREADS".split()
)
"""What the process may know of the app's environment, in which there may be passwords."""

LOOK_EVERY_S = 2.0
"""How often the queue is looked at; what is sent to this process it knows at once."""

WATCH_EVERY_S = 0.5
MOST_ATTEMPTS = 3
"""A video on which the app itself ended so often is not begun again: it may be the cause."""

START_S = 300.0
TIMES_ITS_LENGTH = 40.0
SILENCE_S = 180.0
"""The work may take `START_S` and so many times the video's length, and say nothing so long."""

OUTPUT_TIMES_INPUT = 4
LEAST_FILE_BYTES = 2**30
"""A file that is made may be this large, or so many times as large as what was sent."""

LONGEST_LINE = 2**16
PROGRESS = "share frames frame_count position_s duration_s frames_per_s left_s faces".split()

DIED = (
    "The work on this video ended unexpectedly: perhaps the file is damaged, or its picture is too "
    "large."
)
TOO_LONG = "The work on this video took too long and was ended: a shorter or smaller copy may do."
TOO_OFTEN = (
    "The server was stopped several times while it worked on this video, so it was given up: "
    "please send it again."
)
NO_SUCH_MODEL = "The model that was chosen for this video is not offered any more."
CANNOT_START = "The work on this video could not begin: please try again later."


@dataclass(frozen=True)
class Job:
    """What is to be done, under which limits.

    Attributes:
        source: the file that was sent.
        room: the folder that the results go to.
        model: folder and name of the model's files.
        detector: what finds the faces: haar or yunet.
        detector_model: file of the network that yunet needs, or None.
        longest_s: how long the video may be.
        memory_bytes: memory that the process may have.
        cpu_s: processor time that it may take.
        file_bytes: how large a file it may write.
    """

    source: str
    room: str
    model: str
    detector: str
    detector_model: str | None
    longest_s: float
    memory_bytes: int
    cpu_s: int
    file_bytes: int


@dataclass
class Told:
    """What the process of a video has said so far."""

    progress: Mapping = field(default_factory=dict)
    done: Mapping | None = None
    problem: str = ""
    mistake: str = ""
    heard_s: float = field(default_factory=time.monotonic)


class VideoWorkers:
    """The threads of one process that work on videos; none runs before `start`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        rows: VideoRows,
        files: VideoFiles,
        models: Models,
        clock: Callable[[], float],
        command: Sequence[str] = COMMAND,
    ):
        """Work on the videos of a queue, with a program that speaks as `video_job` does."""
        self.command = command
        self.ended: Counter = Counter()
        self.in_work: set[str] = set()
        self._settings = settings
        self._database = database
        self._rows = rows
        self._files = files
        self._models = models
        self._clock = clock
        self._lock = threading.Lock()
        self._something = threading.Condition(self._lock)
        self._threads: list[threading.Thread] = []
        self._is_stopping = False

    def start(self) -> None:
        """Start the threads that are to run and do not."""
        with self._lock:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            missing = self._settings.video_workers - len(self._threads)
            if self._is_stopping:
                return
            for _ in range(missing):
                thread = threading.Thread(target=self._work, name="videos", daemon=True)
                thread.start()
                self._threads.append(thread)

    def wake(self) -> None:
        """Let the threads look: a video came, or one was deleted."""
        with self._something:
            self._something.notify_all()

    def stop(self, patience_s: float = 10.0) -> None:
        """End what is in work and give it back to the queue."""
        with self._something:
            self._is_stopping = True
            self._something.notify_all()
        for thread in self._threads:
            thread.join(patience_s)

    def _work(self) -> None:
        """Take one video after another until the app ends."""
        while not self._is_stopping:
            try:
                row = self._rows.claim(new_id(), self._clock())
                if row:
                    self._do(row)
                    continue
            except EmotionError as error:
                _log().warning("cannot work on videos at the moment: %s", error)
            except Exception:
                _log().exception("a mistake in the work on videos")
            self._pause(LOOK_EVERY_S)

    def _pause(self, seconds: float) -> None:
        """Wait, but not when something happened."""
        with self._something:
            if not self._is_stopping:
                self._something.wait(seconds)

    def _do(self, row: VideoRow) -> None:
        """Work on a video that is ours."""
        self.in_work.add(row.id)
        try:
            if row.attempts > MOST_ATTEMPTS:
                self._end(row, Told(problem=TOO_OFTEN))
                return
            told = self._run(row)
            if told is not None:
                self._end(row, told)
        finally:
            self.in_work.discard(row.id)

    def _run(self, row: VideoRow) -> Told | None:
        """Run the process of a video; return what it told, None where nobody needs it any more."""
        try:
            job = self._job_of(row)
            with running(self.command, self._settings, job) as process:
                return self._watch(row, process)
        except StorageError as error:
            return Told(problem=_words_of(error))
        except ChoiceError:
            return Told(problem=NO_SUCH_MODEL)
        except OSError as error:
            _log().error("cannot start the work on a video: %s", error.strerror or error)
            return Told(problem=CANNOT_START)

    def _job_of(self, row: VideoRow) -> Job:
        """Return what is to be done for a video.

        Raises:
            StorageError: there is no room for the results, or the video is gone.
        """
        settings, source = self._settings, self._files.source(row.id)
        room = self._files.make_room(row.id, row.attempt)
        wall_s = START_S + TIMES_ITS_LENGTH * settings.longest_video_s
        try:
            sent_bytes = source.stat().st_size
        except OSError as error:
            raise StorageError(error) from error
        detector_model = settings.detector_model
        return Job(
            source=str(source),
            room=str(room),
            model=str(self._models.find(row.model_key).stem),
            detector=settings.detector,
            detector_model=str(detector_model) if detector_model else None,
            longest_s=settings.longest_video_s,
            memory_bytes=settings.video_memory_mb * 2**20,
            cpu_s=round(wall_s * available_cpus()),
            file_bytes=max(LEAST_FILE_BYTES, OUTPUT_TIMES_INPUT * sent_bytes),
        )

    def _watch(self, row: VideoRow, process: subprocess.Popen) -> Told | None:
        """Note how far a process is until it ends or has to."""
        told, started_s = Told(), time.monotonic()
        reader = threading.Thread(target=_listen, args=(process, told, self.wake), daemon=True)
        reader.start()
        while process.poll() is None:
            self._pause(WATCH_EVERY_S)
            if self._is_stopping:
                process.kill()
                self._rows.hand_back(row)
                self._files.drop_room(row.id, row.attempt)
                return None
            if not self._still_ours(row, told):
                process.kill()
                self._files.drop_room(row.id, row.attempt)
                self._tally("cancelled")
                return None
            if is_late(told, time.monotonic() - started_s, self._settings.longest_video_s):
                process.kill()
                return Told(problem=TOO_LONG)
        reader.join()
        return replace(told, problem=told.problem or why_ended(process.returncode))

    def _still_ours(self, row: VideoRow, told: Told) -> bool:
        """Note how far the work is; False where the video was deleted or is another's by now."""
        try:
            return self._rows.beat(row, self._clock(), json.dumps(told.progress))
        except DatabaseError as error:
            # it may come back in time; if it does not, another process takes the video
            _log().warning("cannot note how far a video is: %s", error)
            return True

    def _end(self, row: VideoRow, told: Told) -> None:
        """Note what came of a video; what was sent goes in any case."""
        if told.mistake:
            _log().error("a mistake in the work on a video:\n%s", told.mistake)
        ended = self._result_of(row, told)
        if not self._note_end(ended):
            self._files.drop_room(row.id, row.attempt)
            return
        self._files.keep_only(row.id, row.attempt if ended.state == DONE else "")
        self._count(ended, told)

    def _note_end(self, row: VideoRow) -> bool:
        """Note that a video has ended; False where it was deleted, or where that is impossible."""
        give_up_s = time.monotonic() + SILENT_S
        while True:
            try:
                return self._rows.finish(row)
            except DatabaseError as error:
                _log().warning("cannot note that a video has ended: %s", error)
                if self._is_stopping or time.monotonic() > give_up_s:
                    return False
            self._pause(LOOK_EVERY_S)

    def _result_of(self, row: VideoRow, told: Told) -> VideoRow:
        """Return a video as it ended."""
        expires_s = self._clock() + self._settings.keep_s
        if told.done is None:
            problem = sentence(told.problem or DIED)
            return replace(row, state=FAILED, problem=problem, expires_s=expires_s)
        return replace(
            row,
            state=DONE,
            problem=sentence(told.done["problem"]),
            faces=int(told.done["faces"]),
            emotions=",".join(told.done["emotions"]),
            expires_s=expires_s,
        )

    def _count(self, row: VideoRow, told: Told) -> None:
        """Count a video in the figures and in the log, without anything it could be known by."""
        self._tally(row.state)
        fields = {"state": row.state, "faces": row.faces}
        if told.done is not None:
            fields |= {name: told.done[name] for name in ("frames", "duration_s")}
            self._count_in_statistics(row, told.done)
        _log().info("video %s", row.state, extra={"video": fields})

    def _tally(self, outcome: str) -> None:
        with self._lock:
            self.ended[outcome] += 1

    def _count_in_statistics(self, row: VideoRow, done: Mapping) -> None:
        try:
            self._database.count_video(
                VideoCount(
                    day=day_of(self._clock()),
                    model_sha256=done["model"]["sha256"],
                    videos=1,
                    without_face=int(row.faces == 0),
                    faces=row.faces,
                    seconds=float(done["duration_s"]),
                )
            )
        except DatabaseError as error:
            _log().warning("a video is missing in the statistics: %s", error)


@contextlib.contextmanager
def running(command: Sequence[str], settings: Settings, job: Job) -> Iterator[subprocess.Popen]:
    """Give a process that has been told its job, and that ends with the block in any case."""
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    # fonts are looked for once, not for every video
    environment["MPLCONFIGDIR"] = str(settings.instance / "matplotlib")
    # its own pool sets a gigabyte aside
    environment["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=PROJECT_FOLDER,
        env=environment,
        # Ctrl-C in a terminal is for the app, which then ends this process
        process_group=0,
    )
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(asdict(job)).encode() + b"\n")
            process.stdin.flush()
        yield process
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            process.stdin.close()


def _listen(process: subprocess.Popen, told: Told, wake: Callable[[], None]) -> None:
    """Take what a process says, to its end; it may have been taken over by a hostile file."""
    with process.stdout as stream:
        for line in iter(lambda: stream.readline(LONGEST_LINE), b""):
            told.heard_s = time.monotonic()
            with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
                _take(told, json.loads(line))
    wake()


def _take(told: Told, content: Mapping) -> None:
    """Take one line of what a process says."""
    if isinstance(content.get("progress"), Mapping):
        told.progress = numbers_of(content["progress"])
    told.problem = str(content.get("problem", told.problem))[:1000]
    told.mistake = str(content.get("mistake", told.mistake))
    if is_result(content.get("done")):
        told.done = content["done"]


def numbers_of(progress: Mapping) -> dict[str, float | None]:
    """Return how far the work is, in numbers alone."""
    found = {name: progress.get(name) for name in PROGRESS}
    return {
        name: value if isinstance(value, int | float) and math.isfinite(value) else None
        for name, value in found.items()
    }


def is_result(content: object) -> bool:
    """Tell whether the end of the work is told in the form that is expected."""
    kinds = {"problem": str, "faces": int, "frames": int, "emotions": list, "model": Mapping}
    return (
        isinstance(content, Mapping)
        and all(isinstance(content.get(name), kind) for name, kind in kinds.items())
        and isinstance(content.get("duration_s"), int | float)
        and isinstance(content["model"].get("sha256"), str)
        and all(isinstance(name, str) for name in content["emotions"])
    )


def is_late(told: Told, elapsed_s: float, longest_s: float) -> bool:
    """Tell whether the work on a video takes longer than it may."""
    length_s = told.progress.get("duration_s") or longest_s
    is_silent = time.monotonic() - told.heard_s > SILENCE_S
    return is_silent or elapsed_s > START_S + TIMES_ITS_LENGTH * min(length_s, longest_s)


def why_ended(status: int) -> str:
    """Return why a process ended that has told no problem; "" where all is well."""
    if status == 0:
        return ""
    return TOO_LONG if status == -getattr(signal, "SIGXCPU", 0) else DIED


def _words_of(error: StorageError) -> str:
    if error.is_full:
        return "The server's disk is full, so the video could not be worked on."
    return "The server's folder for results cannot be written to at the moment."


def _log() -> logging.Logger:
    return logging.getLogger(LOGGER)
