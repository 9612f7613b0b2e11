"""Analyses videos outside of requests: threads that take one after another from the queue.

Each video gets a process of its own (`job`), which a thread watches: it notes how far the work is,
and ends the process if the video was deleted, if it takes too long, or if the app ends. Then the
video waits again, and the next process that takes videos begins anew.
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

from emotion.errors import ChoiceError, DatabaseError, EmotionError
from emotion.files import available_cpus
from emotion.text import sentence
from emotion.web.database import Answers, Database, VideoCount, day_of
from emotion.web.logs import LOGGER
from emotion.web.models.offered import Models
from emotion.web.settings import PROJECT_FOLDER, Settings
from emotion.web.storage import StorageError, new_id
from emotion.web.videos.files import Job, VideoFiles
from emotion.web.videos.queue import DONE, FAILED, SILENT_S, VideoRow, VideoRows

COMMAND = (sys.executable, "-m", "emotion.web.videos.job")
ENVIRONMENT = tuple(
    "PATH SYSTEMROOT LANG LC_ALL TZ TMPDIR LD_LIBRARY_PATH PYTHONPATH OMP_NUM_THREADS".split()
)
"""What the process may know of the app's environment, which may hold passwords."""

LOOK_EVERY_S = 2.0
"""How often the queue is looked at; of what this process receives, it knows at once."""

WATCH_EVERY_S = 0.5
MOST_ATTEMPTS = 3
"""A video is given up after the app has ended this often while it was analysed."""

START_S = 300.0
TIMES_ITS_LENGTH = 40.0
SILENCE_S = 180.0
"""The work may take `START_S` and this many times the video's length, and be silent this long."""

OUTPUT_TIMES_INPUT = 4
LEAST_FILE_BYTES = 2**30
"""A result may be this large, or this many times as large as the uploaded file."""

LONGEST_LINE = 2**16
PROGRESS = "share frames frame_count position_s duration_s frames_per_s left_s faces".split()

DIED = (
    "The work on this video ended unexpectedly: perhaps the file is damaged, or its picture is too "
    "large."
)
TOO_LONG = "The work on this video took too long and was ended: try a shorter or smaller copy."
TOO_OFTEN = (
    "The server was stopped several times while it worked on this video, so it was given up: "
    "please send it again."
)
NO_SUCH_MODEL = "The model that was chosen for this video is not offered any more."
CANNOT_START = "The work on this video could not begin: please try again later."
DISK_FULL = "The server's disk is full, so the video could not be analysed."
CANNOT_WRITE = "The server's folder for results cannot be written to at the moment."


@dataclass
class Told:
    """What the process of a video has said so far."""

    progress: Mapping = field(default_factory=dict)
    done: Mapping | None = None
    problem: str = ""
    mistake: str = ""
    heard_s: float = field(default_factory=time.monotonic)


class VideoWorkers:
    """The threads of one process that analyse videos; none runs before `start`."""

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
        """Analyse the videos of a queue with a program that speaks as `job` does."""
        self.command = command
        self.ended: Counter = Counter()
        self.in_work: set[str] = set()
        self._settings = settings
        self._database = database
        self._rows = rows
        self._files = files
        self._models = models
        self._clock = clock
        self._news = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._is_stopping = False

    def start(self) -> None:
        """Start the threads that should run and do not."""
        with self._news:
            if self._is_stopping:
                return
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            for _ in range(self._settings.video_workers - len(self._threads)):
                thread = threading.Thread(target=self._work, name="videos", daemon=True)
                thread.start()
                self._threads.append(thread)

    def wake(self) -> None:
        """Let the threads look: a video came, or one was deleted."""
        with self._news:
            self._news.notify_all()

    def stop(self, patience_s: float = 10.0) -> None:
        """End all processes and give their videos back to the queue."""
        with self._news:
            self._is_stopping = True
            self._news.notify_all()
        for thread in self._threads:
            thread.join(patience_s)

    def _pause(self, seconds: float) -> None:
        """Wait until the time is over or there is news."""
        with self._news:
            if not self._is_stopping:
                self._news.wait(seconds)

    def _work(self) -> None:
        """Take one video after another until the app ends."""
        while not self._is_stopping:
            try:
                row = self._rows.claim(new_id(), self._clock())
                if row:
                    self.in_work.add(row.id)
                    try:
                        told = self._run(row)
                        if told is not None:
                            self._end(row, told)
                    finally:
                        self.in_work.discard(row.id)
                    continue
            except EmotionError as error:
                _log().warning("cannot work on videos at the moment: %s", error)
            except Exception:
                _log().exception("a mistake in the work on videos")
            self._pause(LOOK_EVERY_S)

    def _run(self, row: VideoRow) -> Told | None:
        """Run the process of a video; return what it told, None if nobody needs it any more."""
        if row.attempts > MOST_ATTEMPTS:
            return Told(problem=TOO_OFTEN)
        try:
            with running(self.command, self._settings, self._job_of(row)) as process:
                return self._watch(row, process)
        except StorageError as error:
            return Told(problem=DISK_FULL if error.is_full else CANNOT_WRITE)
        except ChoiceError:
            return Told(problem=NO_SUCH_MODEL)
        except OSError as error:
            _log().error("cannot start the work on a video: %s", error.strerror or error)
            return Told(problem=CANNOT_START)

    def _job_of(self, row: VideoRow) -> Job:
        settings, source = self._settings, self._files.source(row.id)
        model = self._models.find(row.model_key)
        room = self._files.make_room(row.id, row.attempt)
        wall_s = START_S + TIMES_ITS_LENGTH * settings.longest_video_s
        try:
            sent_bytes = source.stat().st_size
        except OSError as error:
            raise StorageError(error) from error
        return Job(
            source=str(source),
            room=str(room),
            model=str(model.stem),
            model_names=model.names,
            detector=settings.detector,
            detector_model=str(settings.detector_model) if settings.detector_model else None,
            longest_s=settings.longest_video_s,
            memory_bytes=settings.video_memory_mb * 2**20,
            cpu_s=round(wall_s * available_cpus()),
            file_bytes=max(LEAST_FILE_BYTES, OUTPUT_TIMES_INPUT * sent_bytes),
        )

    def _watch(self, row: VideoRow, process: subprocess.Popen) -> Told | None:
        """Note how far a process is until it ends or has to."""
        told, started_s = Told(), time.monotonic()
        longest_s = self._settings.longest_video_s
        reader = threading.Thread(target=self._listen, args=(process, told), daemon=True)
        reader.start()
        while process.poll() is None:
            self._pause(WATCH_EVERY_S)
            if self._is_stopping:
                process.kill()
                self._rows.hand_back(row)
                self._files.drop_room(row.id, row.attempt)
                return None
            try:
                is_ours = self._rows.beat(row, self._clock(), json.dumps(told.progress))
            except DatabaseError as error:
                # it may come back in time; if it does not, another process takes the video
                _log().warning("cannot note how far a video is: %s", error)
                is_ours = True
            if not is_ours:
                process.kill()
                self._files.drop_room(row.id, row.attempt)
                self._tally("cancelled")
                return None
            length_s = min(told.progress.get("duration_s") or longest_s, longest_s)
            now_s, latest_s = time.monotonic(), started_s + START_S + TIMES_ITS_LENGTH * length_s
            if now_s > latest_s or now_s - told.heard_s > SILENCE_S:
                process.kill()
                return Told(problem=TOO_LONG)
        reader.join()
        if process.returncode and not told.problem:
            ran_out = process.returncode == -getattr(signal, "SIGXCPU", 0)
            told.problem = TOO_LONG if ran_out else DIED
        return told

    def _listen(self, process: subprocess.Popen, told: Told) -> None:
        """Take what a process says, to its end; a hostile file may have taken it over."""
        with process.stdout as stream:
            for line in iter(lambda: stream.readline(LONGEST_LINE), b""):
                told.heard_s = time.monotonic()
                with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError):
                    content = json.loads(line)
                    if isinstance(content.get("progress"), Mapping):
                        told.progress = numbers_of(content["progress"])
                    told.problem = str(content.get("problem", told.problem))[:1000]
                    told.mistake = str(content.get("mistake", told.mistake))
                    if is_result(content.get("done")):
                        told.done = content["done"]
        self.wake()

    def _end(self, row: VideoRow, told: Told) -> None:
        """Note what came of a video; the uploaded file always goes."""
        if told.mistake:
            _log().error("a mistake in the work on a video:\n%s", told.mistake)
        done = told.done
        changes = {"state": FAILED, "problem": sentence(told.problem or DIED)}
        if done is not None:
            answers = Answers(
                candidates=tuple((name,) for name in done["emotions"]),
                verdicts=tuple(done["verdicts"]),
                model={name: done["model"][name] for name in ("key", "title")},
            )
            changes = {
                "state": DONE,
                "problem": sentence(done["problem"]),
                "faces": int(done["faces"]),
                "emotions": answers.to_text(),
            }
        ended = replace(row, **changes, expires_s=self._clock() + self._settings.keep_s)
        if not self._note_end(ended):
            self._files.drop_room(row.id, row.attempt)
            return
        self._files.keep_only(row.id, row.attempt if done is not None else "")
        self._tally(ended.state)
        fields = {"state": ended.state, "faces": ended.faces}
        if done is not None:
            fields |= {"frames": done["frames"], "duration_s": done["duration_s"]}
            day, seconds = day_of(self._clock()), float(done["duration_s"])
            key, numbers = (day, done["model"]["sha256"]), (int(ended.faces == 0), ended.faces)
            try:
                self._database.count_video(VideoCount(*key, 1, *numbers, seconds))
            except DatabaseError as error:
                _log().warning("a video is missing in the statistics: %s", error)
        _log().info("video %s", ended.state, extra={"video": fields})

    def _note_end(self, row: VideoRow) -> bool:
        """Note that a video has ended; False if it was deleted, or if that is impossible."""
        give_up_s = time.monotonic() + SILENT_S
        while True:
            try:
                return self._rows.finish(row)
            except DatabaseError as error:
                _log().warning("cannot note that a video has ended: %s", error)
                if self._is_stopping or time.monotonic() > give_up_s:
                    return False
            self._pause(LOOK_EVERY_S)

    def _tally(self, outcome: str) -> None:
        with self._news:
            self.ended[outcome] += 1


@contextlib.contextmanager
def running(command: Sequence[str], settings: Settings, job: Job) -> Iterator[subprocess.Popen]:
    """Give a process that knows its job; it always ends with the block."""
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


def numbers_of(progress: Mapping) -> dict[str, float | None]:
    """Return how far the work is: numbers only."""
    found = {name: progress.get(name) for name in PROGRESS}
    return {
        name: value if isinstance(value, int | float) and math.isfinite(value) else None
        for name, value in found.items()
    }


def is_result(content: object) -> bool:
    """True if the result has the expected form."""
    kinds = {"problem": str, "faces": int, "frames": int, "model": Mapping}
    kinds |= {"emotions": list, "verdicts": list}
    return (
        isinstance(content, Mapping)
        and all(isinstance(content.get(name), kind) for name, kind in kinds.items())
        and isinstance(content.get("duration_s"), int | float)
        and all(isinstance(content["model"].get(name), str) for name in ("sha256", "key", "title"))
        and all(isinstance(name, str) for name in (*content["emotions"], *content["verdicts"]))
    )


def _log() -> logging.Logger:
    return logging.getLogger(LOGGER)
