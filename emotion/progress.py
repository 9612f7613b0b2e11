"""How far long work is: a bar on a terminal, else a line now and then."""

import contextlib
import io
from collections.abc import Callable, Iterator
from typing import TextIO

LINE_EVERY_S = 30.0


@contextlib.contextmanager
def progress_bar(unit: str, total: int | None, stream: TextIO) -> Iterator[Callable[..., None]]:
    """Give a function that shows how much is done: `show(12, "2 problems")`."""
    from tqdm import tqdm  # only long work waits for it

    is_terminal = stream.isatty()
    how = {"file": stream, "dynamic_ncols": True, "mininterval": 0.1}
    if not is_terminal:
        how = {"file": io.StringIO(), "ncols": 0, "mininterval": LINE_EVERY_S}
    with tqdm(total=total, unit=f" {unit}", miniters=1, leave=False, **how) as bar:
        is_first = True

        def show(done: int, extra: str = "") -> None:
            nonlocal is_first
            if is_first:  # what was done before does not count for the speed
                bar.initial, bar.n, is_first = done, done, False
            bar.set_postfix_str(extra, refresh=False)
            if bar.update(done - bar.n) and not is_terminal:
                stream.write(f"{bar}\n")
                stream.flush()

        yield show
