"""The table of a video: one row a face a frame, and one row for each frame without a face.

`docs/video.md` says what each column means.
"""

from collections.abc import Iterable

from emotion.video.tracking import FrameFaces


def video_columns(class_names: Iterable[str]) -> dict[str, type]:
    """Return the columns of a video's table, name -> type, for a model's classes."""
    names = tuple(class_names)
    return {
        **{"frame": int, "timestamp_s": float, "track": int},
        **dict.fromkeys(("x", "y", "width", "height"), int),
        **{"score": float, "detected": bool},
        **{"emotion": str, "confidence": float, "sure": bool, "candidates": str},
        **{f"probability_{name}": float for name in names},
        **{f"raw_probability_{name}": float for name in names},
        "notes": str,
    }


def frame_rows(frame: FrameFaces) -> list[dict]:
    """Return the rows of one frame, column -> value; without a face, one of frame and time."""
    start = {"frame": frame.index, "timestamp_s": round(frame.timestamp_s, 6)}
    rows = []
    for tracked in frame.faces:
        face = tracked.face
        row = {
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
        }
        rows.append(start | row)
    return rows or [start]
