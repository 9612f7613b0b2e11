"""The table of a video: one row a face a frame, and one row for each frame without a face."""

from collections.abc import Iterable

from emotion.faces import verdict
from emotion.video.tracking import FrameFaces, TrackedFace

COLUMNS = (
    ("frame", int, "number of the frame, from 0"),
    ("timestamp_s", float, "time of the frame in seconds, from the file; uneven where it is"),
    ("track", int, "number of the person's track, from 1, never used again; empty: no face"),
    ("x", int, "left edge of the face's box in pixels of the upright frame"),
    ("y", int, "top edge of the box in pixels"),
    ("width", int, "width of the box in pixels"),
    ("height", int, "height of the box in pixels"),
    ("score", float, "how sure the detector was that this is a face; higher is surer"),
    ("detected", bool, "true: found in this very frame; false: followed from a frame before"),
    ("emotion", str, "most probable emotion, smoothed over the track"),
    ("confidence", float, "its probability, 0 to 1"),
    ("sure", bool, "whether the answer meets the model's thresholds"),
    ("candidates", str, "the emotions that the answer names: one when sure, up to three if not"),
    ("probability_", float, "probability of each emotion, smoothed over the track, 0 to 1"),
    ("raw_probability_", float, "the same from this frame alone; repeated until read again"),
    ("notes", str, "what may make the answer unreliable"),
    ("verdict", str, "the answer in a few words, such as unsure: neutral 45% or sad 41%"),
)
"""Name, type and meaning of each column; one that ends in `_` stands for one a class."""


def video_columns(class_names: Iterable[str]) -> dict[str, type]:
    """Return the columns of a video's table, name -> type, for a model's classes."""
    classes = tuple(class_names)
    return {
        name + suffix: kind
        for name, kind, _ in COLUMNS
        for suffix in (classes if name.endswith("_") else ("",))
    }


def frame_rows(frame: FrameFaces) -> list[dict]:
    """Return the rows of one frame, column -> value; without a face, one of frame and time."""
    start = {"frame": frame.index, "timestamp_s": round(frame.timestamp_s, 6)}
    return [start | _face_row(tracked) for tracked in frame.faces] or [start]


def _face_row(tracked: TrackedFace) -> dict:
    """Return the columns of one face."""
    face = tracked.face
    return {
        "track": tracked.track,
        **dict(zip(("x", "y", "width", "height"), map(int, face.box_xywh), strict=True)),
        "score": round(float(face.score), 4),
        "detected": tracked.is_detected,
        "emotion": face.emotion,
        "confidence": round(face.confidence, 6),
        "sure": face.sure,
        "candidates": ", ".join(face.candidates),
        **{f"probability_{name}": round(p, 6) for name, p in face.probabilities.items()},
        **{f"raw_probability_{name}": round(p, 6) for name, p in tracked.raw.items()},
        "notes": "; ".join(face.notes) or None,
        "verdict": verdict(face),
    }
