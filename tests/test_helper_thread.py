import threading
import time

import cv2
import pytest

from emotion.detection.helper_thread import HelperThread


@pytest.fixture(autouse=True)
def two_threads():
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    yield
    cv2.setNumThreads(before)


def square(number: int) -> int:
    return number * number


@pytest.mark.parametrize("count", [0, 1, 2, 100])
@pytest.mark.parametrize("threads", [1, 2])
def test_each_keeps_the_order(count, threads):
    cv2.setNumThreads(threads)
    assert HelperThread(list).each(square, range(count)) == [number**2 for number in range(count)]


def test_work_is_shared():
    helper, meeting = HelperThread(list), threading.Barrier(2)

    def meet(_) -> str:
        meeting.wait(timeout=30)
        return threading.current_thread().name

    assert len(set(helper.each(meet, "ab"))) == 2, "both threads must be there at once"


def test_one_thread_does_it_alone_where_no_more_are_allowed():
    cv2.setNumThreads(1)
    helper = HelperThread(lambda: pytest.fail("no thread is wanted"))
    here = threading.current_thread()
    assert helper.each(lambda _: threading.current_thread(), "abc") == [here] * 3
    assert helper.start(threading.current_thread)() is here


def test_a_busy_helper_is_not_waited_for():
    helper, done = HelperThread(list), threading.Event()
    busy = helper.start(lambda: done.wait(timeout=30))
    here = threading.current_thread()
    assert helper.each(lambda _: threading.current_thread(), "abc") == [here] * 3
    assert helper.start(threading.current_thread)() is here
    done.set()
    assert busy() is True


def test_the_thread_is_prepared_first():
    local = threading.local()

    def prepare() -> None:
        local.ready = True

    prepare()
    helper, meeting = HelperThread(prepare), threading.Barrier(2)
    assert helper.each(lambda _: (meeting.wait(timeout=30), local.ready)[1], "ab") == [True, True]


def test_an_error_of_the_helper_reaches_the_caller():
    helper, here = HelperThread(list), threading.current_thread()

    def fail_elsewhere(_) -> None:
        if threading.current_thread() is not here:
            raise ValueError("there")
        time.sleep(0.01)

    with pytest.raises(ValueError, match="there"):
        helper.each(fail_elsewhere, range(100))
