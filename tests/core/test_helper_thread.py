import threading

import cv2
import pytest

from emotion.detection.helper_thread import HelperThread


@pytest.fixture(autouse=True)
def two_threads():
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    yield
    cv2.setNumThreads(before)


@pytest.mark.parametrize("threads", [1, 2])
def test_results_are_in_order(threads):
    cv2.setNumThreads(threads)
    helper = HelperThread(list)
    for count in (0, 1, 2, 100):
        assert helper.each(lambda n: n * n, range(count)) == [n * n for n in range(count)]


def test_work_is_shared_by_a_thread_that_was_prepared():
    local, meeting = threading.local(), threading.Barrier(2)
    local.ready = True
    helper = HelperThread(lambda: setattr(local, "ready", True))
    assert helper.each(lambda _: (meeting.wait(timeout=30), local.ready)[1], "ab") == [True, True]


def test_a_busy_helper_is_not_waited_for():
    helper, both_in, done = HelperThread(list), threading.Barrier(3), threading.Event()
    work = lambda _: (both_in.wait(30), done.wait(30))  # noqa: E731
    other = threading.Thread(target=helper.each, args=(work, "ab"))
    other.start()
    both_in.wait(30)  # the other thread and the helper are busy now
    here = threading.current_thread()
    assert helper.each(lambda _: threading.current_thread(), "abc") == [here] * 3
    done.set()
    other.join()


def test_an_error_of_the_helper_reaches_the_caller():
    here, meeting = threading.current_thread(), threading.Barrier(2)

    def fail_elsewhere(_) -> None:
        meeting.wait(timeout=30)
        if threading.current_thread() is not here:
            raise ValueError("there")

    with pytest.raises(ValueError, match="there"):
        HelperThread(list).each(fail_elsewhere, "ab")
