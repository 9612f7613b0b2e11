"""The table of a video: one row a face a frame, and one row for each frame without a face."""

from collections.abc import Iterable

from emotion.rows import face_cells, face_columns, face_to_dict
from emotion.video.tracking import FrameFaces


def video_columns(class_names: Iterable[str]) -> dict[str, type]:
    """Return the columns of a video's table, name -> type, for a model's classes."""
    return {"frame": int, "timestamp_s": float, "track": int, **face_columns(class_names, raw=True)}


def frame_rows(frame: FrameFaces) -> list[dict]:
    """Return the rows of one frame, column -> value; without a face, one of frame and time."""
    start = {"frame": frame.index, "timestamp_s": round(frame.timestamp_s, 6)}
    rows = [
        start
        | {"track": tracked.track, "detected": tracked.is_detected}
        | face_cells(face_to_dict(tracked.face))
        | {f"raw_probability_{name}": round(p, 6) for name, p in tracked.raw.items()}
        for tracked in frame.faces
    ]
    return rows or [start]
