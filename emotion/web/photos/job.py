"""Works on photos in a process of its own: `python -m emotion.web.photos.job`.

Strangers' bytes are decoded here, without the network and within a limit of memory; no Flask and no
database is imported. Tasks come on stdin, answers go to stdout: a line of JSON, then the bytes it
announces. A hostile file may take this process over, so the app reads nothing else from it.
"""

import json
import math
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from emotion.errors import EmotionError
from emotion.web.sandbox import drop_network, lacks_memory, limit_process, memory_in_use

MOST_BYTES = 2**28  # of one message
MOST_LINE = 2**22


def send(stream: BinaryIO, about: Mapping, parts: Mapping[str, bytes]) -> None:
    """Write one message: plain types and named bytes."""
    sizes = {name: len(part) for name, part in parts.items()}
    stream.write(json.dumps({"about": about, "sizes": sizes}).encode() + b"\n")
    for part in parts.values():
        stream.write(part)
    stream.flush()


def receive(stream: BinaryIO) -> tuple[dict, dict[str, bytes]]:
    """Read one message; raises EOFError where the other side has ended, or ValueError."""
    line = stream.readline(MOST_LINE)
    if not line.endswith(b"\n"):
        raise EOFError("expected a whole message")
    match json.loads(line):
        case {"about": {**about}, "sizes": {**sizes}} if sum(sizes.values()) <= MOST_BYTES:
            parts = {name: stream.read(size) for name, size in sizes.items()}
            if [len(part) for part in parts.values()] == list(sizes.values()):
                return about, parts
    raise ValueError("expected a message; received something else")


def main() -> int:
    """Do what stdin asks for until it closes; return the exit status."""
    stdout = os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print goes nowhere
    drop_network()  # before NumPy starts threads
    about, _ = receive(sys.stdin.buffer)
    megabytes = about["memory_mb"]

    from emotion.detection.haar import FaceDetector
    from emotion.detection.yunet import YunetDetector
    from emotion.files import return_memory_early
    from emotion.model.runtime import StoredModel, run_model
    from emotion.recognizer import Recognizer
    from emotion.web.photos.reading import TASKS, out_of_memory

    return_memory_early()
    detector, recognizers = None, {}

    def work(task: str, model: str | None, seconds: float, **about) -> tuple[dict, Mapping]:
        nonlocal detector
        signal.alarm(math.ceil(seconds) + 5)  # ends this process if the app could not
        if task == "load":
            detector = detector or (YunetDetector(yunet) if yunet else FaceDetector())
            kept = StoredModel(Path(about.pop("stem")), **about, fast_form=parts.get("fast_form"))
            recognizers[model] = Recognizer(run_model(kept), detector)
            return {}, {}
        return TASKS[task](recognizers.get(model), parts.get("content", b""), **about)

    yunet, is_limited = about["yunet"], False
    while True:
        try:
            about, parts = receive(sys.stdin.buffer)
        except EOFError:
            return 0
        try:
            answer, pictures = work(**about)
        except Exception as error:
            pictures = {}
            if lacks_memory(error):
                error = out_of_memory(megabytes)
            if isinstance(error, EmotionError):
                answer = {"error": type(error).__name__, "words": str(error)}
            else:
                answer = {"mistake": traceback.format_exc()}
        signal.alarm(0)
        if not is_limited:  # what the first model takes is not the photos'
            limit_process(memory_in_use() + megabytes * 2**20, file_bytes=0)
            is_limited = True
        del parts
        send(stdout, answer, pictures)


if __name__ == "__main__":
    sys.exit(main())
