"""Analyses videos outside of requests: threads that take one after another from the queue.

A thread watches the process of its video (`job`): it notes how far the work is, and ends it if the
video was deleted, if it takes too long, or if the app ends.
"""

import contextlib
import json
import logging
import math
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from emotion.errors import ChoiceError, DatabaseError, EmotionError
from emotion.files import available_cpus
from emotion.text import sentence
from emotion.web.database import Answers, Database
from emotion.web.logs import LOGGER
from emotion.web.models.offered import Models
from emotion.web.sandbox import clean_environment
from emotion.web.settings import PROJECT_FOLDER, Settings
from emotion.web.storage import StorageError, new_id
from emotion.web.videos.files import SOURCE, VideoFiles
from emotion.web.videos.queue import DONE, FAILED, SILENT_S, WAITING, VideoRow

LOG = logging.getLogger(LOGGER)
COMMAND = (sys.executable, "-m", "emotion.web.videos.job")
LOOK_EVERY_S = 2.0  # at the queue; of what this process receives, it knows at once
MOST_ATTEMPTS = 3  # a video is given up after the app has ended this often during its analysis
# the work may take `START_S` and this many times the video's length, and be silent for so long
START_S, TIMES_ITS_LENGTH, SILENCE_S = 300.0, 40.0, 180.0
PROGRESS = "share frames frame_count position_s duration_s frames_per_s left_s faces".split()
DIED = "The work on this video ended unexpectedly: is the file damaged, or its picture too large?"
TOO_LONG = "The work on this video took too long and was ended: try a shorter or smaller copy."
TOO_OFTEN = "The server was stopped several times during the work on this video: send it again."
CANNOT_START = "The work on this video could not begin: please try again later."


@dataclass
class Report:
    """What the process of a video has said so far; a hostile file may have taken it over."""

    progress: Mapping = field(default_factory=dict)
    done: Mapping | None = None
    problem: str = ""
    mistake: str = ""
    last_s: float = field(default_factory=time.monotonic)

    def add(self, line: bytes) -> None:
        self.last_s = time.monotonic()
        with contextlib.suppress(Exception):
            match json.loads(line):
                case {"progress": {**said}} if said:
                    self.progress = {name: finite(said.get(name)) for name in PROGRESS}
                case {"problem": str(problem)}:
                    self.problem = problem[:1000]
                case {"mistake": str(mistake)}:
                    self.mistake = mistake
                case {
                    "done": {
                        "problem": str(),
                        "faces": int(),
                        "frames": int(),
                        "duration_s": int() | float() as duration_s,
                        "model": {"sha256": str(), "key": str(), "title": str()},
                        "emotions": [*emotions],
                        "verdicts": [*verdicts],
                    } as done
                } if math.isfinite(duration_s):
                    are_words = all(isinstance(word, str) for word in (*emotions, *verdicts))
                    self.done = done if are_words else None


def finite(value: object) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


@dataclass
class VideoWorkers:
    """The threads of one process that analyse videos; none runs before `start`."""

    settings: Settings
    database: Database
    files: VideoFiles
    models: Models
    clock: Callable[[], float]
    look: Callable[[], None]  # at the queue, now and then
    command: Sequence[str] = COMMAND  # speaks as `job` does
    ended: Counter[str] = field(default_factory=Counter)  # how -> how many
    in_work: set[str] = field(default_factory=set)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _threads: list[threading.Thread] = field(default_factory=list)
    _is_stopping: bool = False

    def start(self) -> None:
        with self._news:
            self._threads = [thread for thread in self._threads if thread.is_alive()]
            most = 0 if self._is_stopping else self.settings.video_workers
            for _ in range(most - len(self._threads)):
                thread = threading.Thread(target=self._work, name="videos", daemon=True)
                thread.start()
                self._threads.append(thread)

    def wake(self) -> None:  # a video came, or one was deleted
        with self._news:
            self._news.notify_all()

    def stop(self, patience_s: float = 10.0) -> None:
        """End all processes and give their videos back to the queue."""
        self._is_stopping = True
        self.wake()
        for thread in self._threads:
            thread.join(patience_s)

    def _pause(self, seconds: float) -> None:
        with self._news:
            if not self._is_stopping:
                self._news.wait(seconds)

    def _work(self) -> None:
        while not self._is_stopping:
            try:
                row = self.database.claim(new_id(), self.clock())
                self.look()
                if row:
                    self.in_work.add(row.id)
                    try:
                        self._analyse(row)
                    finally:
                        self.in_work.discard(row.id)
                    continue
            except EmotionError as error:
                LOG.warning("cannot work on videos at the moment: %s", error)
            except Exception:
                LOG.exception("a mistake in the work on videos")
            self._pause(LOOK_EVERY_S)

    def _analyse(self, row: VideoRow) -> None:
        report: Report | None = Report(problem=TOO_OFTEN)
        try:
            if row.attempts <= MOST_ATTEMPTS:
                with running(self.command, self.settings, self._job_of(row)) as process:
                    report = self._watch(row, process)
        except (StorageError, ChoiceError) as error:
            report = Report(problem=error.public or str(error))
        except OSError as error:
            LOG.error("cannot start the work on a video: %s", error.strerror or error)
            report = Report(problem=CANNOT_START)
        if report is None or not self._note_end(row, report):
            self.files.drop_room(row.id, row.attempt)

    def _job_of(self, row: VideoRow) -> dict:
        settings, model = self.settings, self.models.find(row.model_key)
        source, longest_s = self.files.path(row.id, SOURCE), settings.longest_video_s
        return {
            "source": str(source),
            "room": str(self.files.make_room(row.id, row.attempt)),  # for what is made of it
            "model": str(model.stem),
            "model_names": model.names,
            "yunet": str(settings.yunet) if settings.yunet else None,
            "longest_s": longest_s,
            "memory_bytes": settings.video_memory_mb * 2**20,
            "cpu_s": round(available_cpus() * (START_S + TIMES_ITS_LENGTH * longest_s)),
            "file_bytes": max(2**30, 4 * source.stat().st_size),  # of each that is written
        }

    def _watch(self, row: VideoRow, process: subprocess.Popen) -> Report | None:
        """Note how far a process is until it ends or has to; None if nobody needs it any more."""
        report, started_s, longest_s = Report(), time.monotonic(), self.settings.longest_video_s

        def listen() -> None:
            with process.stdout as stream:
                for line in iter(lambda: stream.readline(2**16), b""):
                    report.add(line)
            self.wake()

        reader = threading.Thread(target=listen, daemon=True)
        reader.start()
        while process.poll() is None:
            self._pause(0.5)
            if self._is_stopping:
                # it waits again as if nobody had begun with it
                waits = {"state": WAITING, "attempts": row.attempts - 1, "beat_s": 0.0}
                self.database.change(row, **waits, progress="")
                return None
            try:
                progress = json.dumps(report.progress)
                if not self.database.change(row, beat_s=self.clock(), progress=progress):
                    self._tally("cancelled")
                    return None
                self.look()
            except DatabaseError as error:  # if it does not come back, another process takes over
                LOG.warning("cannot note how far a video is: %s", error)
            length_s = min(report.progress.get("duration_s") or longest_s, longest_s)
            end_s = started_s + START_S + TIMES_ITS_LENGTH * length_s
            if time.monotonic() > min(end_s, report.last_s + SILENCE_S):
                return Report(problem=TOO_LONG)
        reader.join()
        if process.returncode and not report.problem:
            report.problem = TOO_LONG if process.returncode == -signal.SIGXCPU else DIED
        return report

    def _note_end(self, row: VideoRow, report: Report) -> bool:
        """Note what came of a video; False if it was deleted, or if that is impossible."""
        done, now_s = report.done, self.clock()
        if report.mistake:
            LOG.error("a mistake in the work on a video:\n%s", report.mistake)
        ended = replace(row, state=FAILED, expires_s=now_s + self.settings.keep_s)
        ended.problem = sentence(done["problem"] if done else report.problem or DIED)
        if done:
            model = {name: done["model"][name] for name in ("key", "title")}
            candidates = tuple((name,) for name in done["emotions"])
            ended.emotions = Answers(candidates, tuple(done["verdicts"]), model).to_text()
            ended.state, ended.faces = DONE, done["faces"]
        give_up_s = time.monotonic() + SILENT_S
        while True:  # also if the database is away for a while
            try:
                if not self.database.finish(ended):
                    return False
                break
            except DatabaseError as error:
                LOG.warning("cannot note that a video has ended: %s", error)
                if self._is_stopping or time.monotonic() > give_up_s:
                    return False
            self._pause(LOOK_EVERY_S)
        with contextlib.suppress(FileNotFoundError):
            kept = row.attempt if done else ""  # never the uploaded file
            for name in {path.name for path in self.files.path(row.id).iterdir()} - {kept}:
                self.files.drop_room(row.id, name)
        self._tally(ended.state)
        about = {"state": ended.state, "faces": ended.faces}
        if done:
            about |= {name: done[name] for name in ("frames", "duration_s")}
            numbers = (done["model"]["sha256"], float(done["duration_s"]), now_s)
            try:
                self.database.count_video(ended, self.files.size_of(row.id), *numbers)
            except DatabaseError as error:
                LOG.warning("a video is missing in the statistics: %s", error)
        LOG.info("video %s", ended.state, extra={"video": about})
        return True

    def _tally(self, outcome: str) -> None:
        with self._news:
            self.ended[outcome] += 1


@contextlib.contextmanager
def running(command: Sequence[str], settings: Settings, job: Mapping) -> Iterator[subprocess.Popen]:
    """Give a process that knows its job; it always ends with the block."""
    variables = clean_environment()
    # fonts are looked for once, not for every video; Arrow's own pool sets a gigabyte aside
    variables["MPLCONFIGDIR"] = str(settings.instance / "matplotlib")
    variables["ARROW_DEFAULT_MEMORY_POOL"] = "system"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    # a group of its own: Ctrl-C in a terminal is for the app, which then ends this process
    process = subprocess.Popen(command, cwd=PROJECT_FOLDER, env=variables, process_group=0, **pipes)
    try:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(job).encode() + b"\n")
            process.stdin.flush()
        yield process
    finally:
        process.kill()
        process.wait()
        with contextlib.suppress(OSError):
            process.stdin.close()
