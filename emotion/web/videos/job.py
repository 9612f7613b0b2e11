"""The work on one video, in a process of its own: `python -m emotion.web.videos.job`.

A file from outside is decoded here, by libraries written in C, under limits of memory, processor
time and file size; whatever it does to this process, the app goes on. The app writes the `Job` as a
line of JSON to stdin and keeps that open: when it closes, the app has ended and so does the work.
Lines of JSON come back on stdout: {"progress": ...}, then one of {"done": ...}, {"problem": ...},
a sentence for the person, or {"mistake": ...}, a traceback for the log.
"""

import contextlib
import errno
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TextIO

from emotion.detection.haar import FaceDetector
from emotion.detection.yunet import YunetDetector
from emotion.drawing import annotate
from emotion.errors import EmotionError
from emotion.files import write_json
from emotion.images.encoding import encode_jpeg
from emotion.model.runtime import EmotionModel
from emotion.recognizer import Recognizer
from emotion.video.following import VIDEO_SEARCH, YUNET_VIDEO_SEARCH
from emotion.video.outputs import Progress, VideoOutputs, VideoReport, analyse_video
from emotion.video.reading import VideoInfo, VideoLimits, open_video
from emotion.video.summary import UNSURE
from emotion.video.tracking import FrameFaces
from emotion.web.models.facts import model_facts, without_folders
from emotion.web.photos.pictures import reduced
from emotion.web.server import return_memory_early
from emotion.web.videos.files import FACTS, POSTER, SOURCE, SUMMARY, TABLES, TIMELINE, VIDEO
from emotion.web.videos.workers import Job

NICENESS = 10
"""The web threads go first."""

MOST_FPS = 60
"""A video may have so many frames a second of the longest one."""

TELL_EVERY_S = 0.25
POSTER_SIDE = 1280
OUT_OF_MEMORY = (
    "expected a video that can be worked on in the memory there is; it takes more: a smaller copy "
    "may do"
)
SIGNS_OF_NO_MEMORY = (
    "Insufficient memory",
    "Failed to allocate",
    "allocate memory",
    "bad_alloc",
    "failed to map segment",
)
"""What libraries say of it: OpenCV, ONNX Runtime, the system, C++, its loader."""

MOST_EMOTIONS = 12
"""The list of a visitor's results names so many at most."""


def main() -> int:
    """Do the work that stdin tells; return the exit status."""
    tell = _teller(_own_stdout())
    job = Job(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_the_app, daemon=True).start()
    return_memory_early()
    # the results are for the app's user alone
    os.umask(0o077)
    try:
        limit_process(job)
        tell("done", do(job, lambda progress: tell("progress", progress)))
    except EmotionError as error:
        words = OUT_OF_MEMORY if is_for_want_of_memory(error) else without_paths(str(error), job)
        tell("problem", words)
    except Exception as error:  # the app logs it
        if is_for_want_of_memory(error):
            tell("problem", OUT_OF_MEMORY)
        else:
            tell("mistake", traceback.format_exc())
    return 0


def do(job: Job, tell: Callable[[Mapping], None]) -> dict:
    """Work on a video and return what the app needs to know about the result.

    Raises:
        EmotionError: the video, or the model, cannot be used.
    """
    room, people, poster = Path(job.room), People(), Poster()
    limits = VideoLimits(longest_s=job.longest_s, most_frames=round(job.longest_s * MOST_FPS))
    with open_video(Path(job.source), limits=limits) as video:
        # what is no video is known before a model is loaded
        recognizer, pace = _recognizer_of(job), Pace(tell, people)
        viewers = (people.see, poster.see)
        report = analyse_video(
            recognizer, video, outputs_in(room), viewers=viewers, on_progress=pace.take
        )
    poster.write(room)
    facts = facts_of(job, video.info, report, recognizer.model)
    write_json(room / FACTS, facts)
    tracks = report.summary.tracks
    return facts | {
        "faces": len(tracks),
        "emotions": [track.emotion or UNSURE for track in tracks[:MOST_EMOTIONS]],
        "verdicts": [track.verdict for track in tracks[:MOST_EMOTIONS]],
    }


def outputs_in(room: Path) -> VideoOutputs:
    """Return the files that a video becomes."""
    return VideoOutputs(
        video=room / VIDEO,
        tables=tuple(room / name for name in TABLES),
        summary=room / SUMMARY,
        timeline=room / TIMELINE,
    )


def facts_of(job: Job, info: VideoInfo, report: VideoReport, model: EmotionModel) -> dict:
    """Return what the page says about a video beside its summary."""
    return {
        "problem": without_paths(report.problem or "", job),
        "width": info.size_wh[0],
        "height": info.size_wh[1],
        "fps": round(info.fps, 3),
        "has_sound": info.has_sound,
        "sound_problem": without_paths(report.sound_problem or "", job),
        "frames": report.summary.frames,
        "duration_s": round(report.summary.duration_s, 3),
        "model": model_facts(model, Path(job.model).parent, job.model_names),
    }


class People:
    """How many faces have been followed so far."""

    def __init__(self):
        self.count = 0

    def see(self, frame: FrameFaces) -> bool:
        """Look at a frame; go on."""
        self.count = max(self.count, *(face.track for face in frame.faces), 0)
        return True


class Poster:
    """The picture that stands for the video: the first frame with the most faces."""

    def __init__(self):
        self._faces = -1
        self._picture = None

    def see(self, frame: FrameFaces) -> bool:
        """Look at a frame; go on."""
        if len(frame.faces) > self._faces:
            self._faces = len(frame.faces)
            numbers = [face.track for face in frame.faces]
            drawn = annotate(frame.image, [face.face for face in frame.faces], numbers)
            self._picture = reduced(drawn, POSTER_SIDE)
        return True

    def write(self, room: Path) -> None:
        """Write it as JPEG, if there was a frame."""
        if self._picture is not None:
            (room / POSTER).write_bytes(encode_jpeg(self._picture))


class Pace:
    """Tells now and then how far the work is."""

    def __init__(self, tell: Callable[[Mapping], None], people: People):
        self._tell = tell
        self._people = people
        self._started_s = time.monotonic()
        self._next_s = 0.0

    def take(self, progress: Progress) -> bool:
        """Take the progress of `analyse_video`; go on."""
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + TELL_EVERY_S
            self._tell(self._as_dict(progress, now_s - self._started_s))
        return True

    def _as_dict(self, progress: Progress, elapsed_s: float) -> dict:
        share = progress.share
        return {
            "share": None if share is None else round(share, 4),
            "frames": progress.frames_done,
            "frame_count": progress.frame_count,
            "position_s": round(progress.position_s, 3),
            "duration_s": None if progress.duration_s is None else round(progress.duration_s, 3),
            "frames_per_s": round(progress.rate, 2),
            "left_s": round(elapsed_s * (1 - share) / share, 1) if share else None,
            "faces": self._people.count,
        }


def is_for_want_of_memory(error: BaseException | None) -> bool:
    """Tell whether an error, or one that led to it, came because memory could not be had."""
    while error is not None:
        is_known = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
        if is_known or any(words in str(error) for words in SIGNS_OF_NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def limit_process(job: Job) -> None:
    """Limit what this process may take, where the system has such limits."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    try:
        import resource
    except ImportError:
        return
    for limit, most in (
        # unlike the address space, this leaves out what threads and allocators set aside unused
        (resource.RLIMIT_DATA, job.memory_bytes),
        (resource.RLIMIT_CPU, job.cpu_s),
        (resource.RLIMIT_FSIZE, job.file_bytes),
        (resource.RLIMIT_CORE, 0),
    ):
        # one that is lower already stays
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(limit, (most, most))


def without_paths(text: str, job: Job) -> str:
    """Return a message that speaks of the video, not of where it lies on this server."""
    return without_folders(text.replace(job.source, SOURCE), Path(job.model).parent)


def _recognizer_of(job: Job) -> Recognizer:
    if job.detector == "yunet":
        detector = YunetDetector(Path(job.detector_model), YUNET_VIDEO_SEARCH)
    else:
        detector = FaceDetector(VIDEO_SEARCH)
    return Recognizer.load(Path(job.model), detector)


def _own_stdout() -> TextIO:
    """Return stdout for us alone; what libraries print there goes nowhere."""
    own = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return own


def _teller(stream: TextIO) -> Callable[[str, object], None]:
    """Return a function that writes a line of JSON."""

    def tell(kind: str, content: object) -> None:
        stream.write(json.dumps({kind: content}) + "\n")
        stream.flush()

    return tell


def _end_with_the_app() -> None:
    """Wait for the end of stdin, then end at once."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
