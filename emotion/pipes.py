"""A stdout whose reader leaves early, as `head` does."""

import contextlib
import os
import select
import sys
from pathlib import Path


def stdout_was_closed() -> bool:
    """Return whether the reader of stdout has gone; what is still to be flushed then goes nowhere.

    For whoever meets a BrokenPipeError: pipes to other processes break too.
    """
    with contextlib.suppress(OSError):  # a stdout that is no file has no reader either
        if hasattr(select, "poll"):  # Windows has none
            watch = select.poll()
            watch.register(sys.stdout.fileno(), 0)
            if not watch.poll(0):
                return False
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        return True
    return False
