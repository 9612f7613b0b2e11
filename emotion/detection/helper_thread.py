"""A second thread that takes a share of a few milliseconds' work, where a processor is free."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2

Item = TypeVar("Item")
Result = TypeVar("Result")


class HelperThread:
    """One thread beside those that ask for its help; they never wait for work that it has not
    begun, but do it themselves. Safe to share between threads.
    """

    def __init__(self, prepare: Callable[[], object]):
        """Take what the thread does once before it is of use; it is started when first asked.

        Args:
            prepare: such as loading what each thread needs of its own.
        """
        self._prepare = prepare
        self._pool: ThreadPoolExecutor | None = None
        self._starting = threading.Lock()

    def each(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """Return what a function returns for each item, in their order."""
        if len(items) < 2 or not self._is_allowed():
            return [function(item) for item in items]
        results: dict[int, Result] = {}
        waiting = deque(enumerate(items))
        theirs = self.start(lambda: _work_off(waiting, function, results))
        _work_off(waiting, function, results)
        theirs()
        return [results[number] for number in range(len(items))]

    def start(self, function: Callable[[], Result]) -> Callable[[], Result]:
        """Let the thread begin with a function; return what gives its result.

        Where the thread has not come to it when the result is wanted, the caller does it then.
        """
        if not self._is_allowed():
            return function
        future = self._executor().submit(function)
        return lambda: function() if future.cancel() else future.result()

    def _is_allowed(self) -> bool:
        """Tell whether OpenCV, whose threads follow the processors and settings, may use two."""
        return cv2.getNumThreads() > 1

    def _executor(self) -> ThreadPoolExecutor:
        with self._starting:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(1, "faces")
                # the first in its queue; where it fails, what comes after it fails in its own words
                self._pool.submit(self._prepare)
            return self._pool


def _work_off(
    waiting: deque[tuple[int, Item]],
    function: Callable[[Item], Result],
    results: dict[int, Result],
) -> None:
    """Do what waits, as long as there is any, while others may do the same."""
    while True:
        try:
            number, item = waiting.popleft()
        except IndexError:
            return
        results[number] = function(item)
