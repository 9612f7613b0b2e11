"""How far long work is: a bar with the time left on a terminal, else a line now and then."""

import contextlib
import time
from collections.abc import Callable
from typing import TextIO

LINE_EVERY_S = 30.0
REDRAWN_EVERY_S = 0.1
BAR = "{percentage:3.0f}%|{bar:30}| {n_fmt} of {total_fmt} {unit}{postfix}"
BAR_WITHOUT_END = "{n_fmt} {unit}{postfix}"


class ProgressBar:
    """Tells on a stream how far the work is, and takes its bar away at the end.

    with ProgressBar("photos", total, sys.stderr) as bar:
        bar.show(done, rate=12.0)
    """

    def __init__(
        self,
        unit: str,
        total: int | None,
        stream: TextIO,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Take what is counted and up to where, None where that is not known."""
        self._unit, self._total, self._stream, self._clock = unit, total, stream, clock
        self._is_terminal, self._bar = stream.isatty(), None
        self._last_s = clock()

    def __enter__(self) -> "ProgressBar":
        if self._is_terminal:
            # where tqdm is not installed, lines tell the same
            with contextlib.suppress(ImportError):
                self._bar = self._open_bar()
        return self

    def _open_bar(self):
        from tqdm import tqdm

        # without a share of the whole there is nothing to fill
        form = BAR if self._total else BAR_WITHOUT_END
        return tqdm(
            total=self._total,
            unit=self._unit,
            file=self._stream,
            bar_format=form,
            mininterval=0,
            leave=False,
            dynamic_ncols=True,
        )

    def __exit__(self, *exception) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(
        self, done: int, rate: float = 0.0, left_s: float | None = None, extra: str = ""
    ) -> None:
        """Tell how far the work is, unless that was told a moment ago.

        Args:
            done: how many are done.
            rate: how many a second, 0 where not known.
            left_s: how long the rest will take; reckoned from the rate where not given.
            extra: a few words more.
        """
        now_s = self._clock()
        if now_s - self._last_s < (LINE_EVERY_S if self._bar is None else REDRAWN_EVERY_S):
            return
        self._last_s = now_s
        words = self._words(done, rate, left_s, extra)
        if self._bar is None:
            whole = f" of {self._total:,}" if self._total else ""
            self._stream.write(f"{done:,}{whole} {self._unit}{words}\n")
            self._stream.flush()
            return
        self._bar.n = done
        self._bar.set_postfix_str(words.removeprefix(", "), refresh=False)
        self._bar.refresh()

    def _words(self, done: int, rate: float, left_s: float | None, extra: str) -> str:
        words = [f"{rate:.1f} a second"] if rate else []
        if left_s is None and self._total and rate:
            left_s = max(0, self._total - done) / rate
        if left_s is not None:
            words.append(f"{duration(left_s)} left")
        return "".join(f", {word}" for word in (*words, extra) if word)


def duration(seconds: float) -> str:
    """Return a time as m:ss, or h:mm:ss from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
