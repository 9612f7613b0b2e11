"""Stands in for `emotion.web.videos.job`: does what the "video" says, without looking at pictures.

The file that is sent is the head of an MP4 and then JSON: {"steps": how many times to tell its
progress, "pause_s": between them, "say": a last line, "status": exit status, "kill": a signal}.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

HEAD = b"\0\0\0\x18ftypisom" + b"\0" * 12
MODEL = {"name": "stand_in", "sha256": "ab" * 32, "runtime": "Stand-in", "notes": []}
MODEL |= {"key": "stand_in", "title": "as nobody does"}
FACTS = {"problem": "", "width": 160, "height": 120, "fps": 10.0, "has_sound": False}
FACTS |= {"frames": 20, "duration_s": 2.0, "model": MODEL}
STRETCHES = ((0.0, 1.0, "happy", 0.8), (1.0, 0.5, "unsure", 0.4), (1.5, 0.5, "sad", 0.7))
LANES = [{"track": 1, "stretches": STRETCHES}]
TRACK = {"first_s": 0.0, "last_s": 2.0, "frames": 20, "seconds": 2.0}
TRACK |= {"mean_probabilities": {"happy": 0.8, "sad": 0.2}}
HAPPY = TRACK | {"track": 1, "emotion": "happy", "verdict": "happy", "unsure_s": 0.5}
HAPPY |= {"seconds_by_emotion": {"happy": 1.5, "sad": 0.0}}
HAPPY |= {"shares": {"happy": 0.75, "sad": 0.0, "unsure": 0.25}}
UNSURE = TRACK | {"track": 2, "emotion": None, "verdict": "unsure: happy or sad", "unsure_s": 2.0}
UNSURE |= {"seconds_by_emotion": {"happy": 0.0, "sad": 0.0}}
UNSURE |= {"shares": {"happy": 0.0, "sad": 0.0, "unsure": 1.0}}
SUMMARY = {"schema": 1, "frames": 20, "duration_s": 2.0, "no_face_s": 0.0, "one_face_s": 0.0}
SUMMARY |= {"several_faces_s": 2.0, "most_faces": 2, "tracks": [HAPPY, UNSURE]}


def sent(**orders) -> bytes:
    """Return a "video" with orders in it."""
    return HEAD + json.dumps(orders).encode()


def tell(kind: str, content: object) -> None:
    print(json.dumps({kind: content}), flush=True)


def main() -> int:
    job = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=lambda: os.read(0, 1) or os._exit(1), daemon=True).start()
    orders = json.loads(Path(job["source"]).read_bytes()[len(HEAD) :])
    steps = orders.get("steps", 2)
    progress = {"frame_count": 20, "duration_s": 2.0, "frames_per_s": 10.0, "left_s": 3.0}
    for step in range(steps):
        time.sleep(orders.get("pause_s", 0))
        share = step / steps
        done = {"share": share, "frames": int(share * 20), "position_s": share * 2, "faces": 1}
        tell("progress", progress | done)
    if "kill" in orders:
        os.kill(os.getpid(), orders["kill"])
    if "say" in orders:
        print(json.dumps(orders["say"]), flush=True)
        return orders.get("status", 0)
    write_files(Path(job["room"]))
    answers = {"emotions": ["happy", "unsure"], "verdicts": ["happy", "unsure: happy or sad"]}
    tell("done", FACTS | {"problem": orders.get("problem", ""), "faces": 2} | answers)
    return orders.get("status", 0)


def write_files(room: Path) -> None:
    picture = bytes(range(256)) * 40
    contents = dict.fromkeys(("annotated.mp4", "timeline.png", "poster.jpg", "face-1.jpg"), picture)
    contents |= {f"emotions.{kind}": b"frame\n0\n" for kind in ("csv", "jsonl", "parquet")}
    contents["facts.json"] = json.dumps(FACTS | {"lanes": LANES}).encode()
    contents["summary.json"] = json.dumps(SUMMARY).encode()
    for name, content in contents.items():
        (room / name).write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
