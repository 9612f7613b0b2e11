"""Analyses one video in a process of its own: `python -m emotion.web.videos.job`.

A stranger's file is decoded here, without a network and within limits; no Flask and no database is
imported. The app writes the job to stdin as a line of JSON; once stdin closes, the work ends. On
stdout come lines of JSON: {"progress": ...}, then one of {"done": ...}, {"problem": ...}, a
sentence for the visitor, or {"mistake": ...}, a traceback for the log.
"""

from emotion.web.sandbox import drop_network, lacks_memory, limit_process

if __name__ == "__main__":
    drop_network()  # now, as some of what is imported below starts threads

import contextlib
import json
import math
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from emotion.detection.haar import FaceDetector
from emotion.detection.yunet import YunetDetector
from emotion.drawing import annotate
from emotion.errors import EmotionError
from emotion.files import return_memory_early, write_json
from emotion.images.encoding import encode_jpeg
from emotion.recognizer import Recognizer
from emotion.video.following import VIDEO_SEARCH, YUNET_VIDEO_SEARCH
from emotion.video.outputs import FrameRate, VideoOutputs, analyse_video
from emotion.video.reading import VideoInfo, VideoLimits, open_video
from emotion.video.summary import UNSURE
from emotion.video.tracking import FrameFaces
from emotion.web.models.offered import model_facts, without_folders
from emotion.web.photos.pictures import face_picture, reduced
from emotion.web.videos.files import FACTS, POSTER, SOURCE, SUMMARY, TABLES, TIMELINE, VIDEO

MOST_LANES, CROP_SIDE = 12, 128  # faces on the page's timeline, and the pixels of their pictures
OUT_OF_MEMORY = "expected a video that takes less memory; received a larger one: try a smaller copy"


def main() -> int:
    stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print goes nowhere

    def tell(kind: str, content: object) -> None:
        print(json.dumps({kind: content}), file=stdout, flush=True)

    def end_with_the_app() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        os._exit(1)

    job = SimpleNamespace(**json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=end_with_the_app, daemon=True).start()
    return_memory_early()
    try:
        # nicer than the web threads, which go first
        limit_process(job.memory_bytes, job.cpu_s, job.file_bytes, niceness=10)
        tell("done", do(job, lambda progress: tell("progress", progress)))
    except Exception as error:
        if lacks_memory(error):
            tell("problem", OUT_OF_MEMORY)
        elif isinstance(error, EmotionError):
            tell("problem", without_paths(str(error), job))
        else:
            tell("mistake", traceback.format_exc())
    return 0


def do(job: SimpleNamespace, tell: Callable[[Mapping], None]) -> dict:
    """Analyse a video and return what the app needs to know about the result."""
    room = Path(job.room)
    limits = VideoLimits(longest_s=job.longest_s, most_frames=round(job.longest_s * 60))
    tables = tuple(room / name for name in TABLES)
    outputs = VideoOutputs(room / VIDEO, tables, room / SUMMARY, room / TIMELINE)
    with open_video(Path(job.source), limits=limits) as video:
        # only now, as a file that is no video needs no model
        yunet = job.yunet and YunetDetector(Path(job.yunet), YUNET_VIDEO_SEARCH)
        recognizer = Recognizer.load(Path(job.model), yunet or FaceDetector(VIDEO_SEARCH))
        watcher, info = Watcher(tell, video.info), video.info
        report = analyse_video(recognizer, video, outputs, viewers=(watcher.see,))
    if watcher.poster is not None:
        (room / POSTER).write_bytes(encode_jpeg(watcher.poster, 75))
    summary, named = report.summary, report.summary.tracks[:12]  # what a list of results shows
    problems = {"problem": video.problem, "sound_problem": report.sound_problem}
    facts = {name: without_paths(problem or "", job) for name, problem in problems.items()}
    facts |= dict(zip(("width", "height"), info.size_wh, strict=True))
    facts |= {"fps": round(info.fps, 3), "has_sound": info.has_sound}
    facts |= {"frames": summary.frames, "duration_s": round(summary.duration_s, 3)}
    facts["model"] = model_facts(recognizer.model, Path(job.model).parent, job.model_names)
    shown = sorted(summary.timelines, key=lambda track: -track.seconds)[:MOST_LANES]
    for track in shown:
        (room / f"face-{track.track}.jpg").write_bytes(watcher.crops[track.track][1])
    lanes = [{"track": one.track, "stretches": one.stretches()} for one in shown]
    write_json(room / FACTS, facts | {"lanes": sorted(lanes, key=itemgetter("track"))})
    about = {"faces": len(summary.tracks), "emotions": [one.emotion or UNSURE for one in named]}
    return facts | about | {"verdicts": [one.verdict for one in named]}


@dataclass
class Watcher:
    """Counts the people, keeps a poster, and tells now and then how far the work is."""

    tell: Callable[[Mapping], None]
    info: VideoInfo
    people: int = 0  # followed so far
    poster: np.ndarray | None = None  # the first frame with the most faces
    most_faces: int = -1
    crops: dict[int, tuple[float, bytes]] = field(default_factory=dict)  # track -> worth, JPEG
    rate: FrameRate = field(default_factory=FrameRate)
    started_s: float = field(default_factory=time.monotonic)
    next_s: float = 0.0

    def see(self, frame: FrameFaces) -> None:
        numbers = [face.track for face in frame.faces]
        self.people = max(self.people, *numbers, 0)
        if len(numbers) > self.most_faces:
            self.most_faces = len(numbers)
            drawn = annotate(frame.image, [face.face for face in frame.faces], numbers)
            self.poster = reduced(drawn, 1280)
        for one in frame.faces:
            # large, and like one expression rather than blurred
            worth = one.is_detected * math.prod(one.face.box_xywh[2:]) * one.face.confidence
            if one.track not in self.crops or worth > 1.2 * self.crops[one.track][0]:
                picture = reduced(face_picture(frame.image, one.face), CROP_SIDE)
                self.crops[one.track] = worth, encode_jpeg(picture)
        now_s, frames_per_s = time.monotonic(), self.rate.tick()
        if now_s >= self.next_s:
            self.next_s = now_s + 0.25
            frames, frame_count = frame.index + 1, self.info.frame_count
            position_s, duration_s = frame.timestamp_s, self.info.duration_s
            done, whole = (frames, frame_count) if frame_count else (position_s, duration_s)
            share = min(1.0, done / whole) if whole else None
            left_s = (now_s - self.started_s) * (1 - share) / share if share else None
            known = {"share": share, "position_s": position_s, "duration_s": duration_s}
            known |= {"frames_per_s": frames_per_s, "left_s": left_s}
            known = {name: value and round(value, 4) for name, value in known.items()}
            self.tell(known | {"frames": frames, "frame_count": frame_count, "faces": self.people})


def without_paths(text: str, job: SimpleNamespace) -> str:
    """Return a message about the video that does not say where it lies on this server."""
    return without_folders(text.replace(job.source, SOURCE), Path(job.model).parent)


if __name__ == "__main__":
    sys.exit(main())
