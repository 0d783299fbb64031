"""Running ahead changes nothing but the time."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import cv2
import pytest

from revisage.pipeline.ahead import ahead, single_threaded_opencv


def test_order_and_bound() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for i in range(50):
            made.append(i)
            yield i

    taken = []
    for item in ahead(items(), 3):
        taken.append(item)
        assert len(made) - len(taken) <= 5  # three in the queue, one waiting to enter it, one being counted
    assert taken == list(range(50))


def test_errors_come_after_the_items_before_them() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    running = ahead(items())
    assert next(running) == 1
    with pytest.raises(KeyError, match="broken"):
        next(running)


def test_a_consumer_that_stops_leaves_no_thread() -> None:
    before = threading.active_count()
    endless = ahead(iter(int, 1), 2)
    assert next(endless) == 0
    endless.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_opencv_gets_its_threads_back() -> None:
    before = cv2.getNumThreads()
    with pytest.raises(KeyError), single_threaded_opencv():
        assert cv2.getNumThreads() == 1
        raise KeyError
    assert cv2.getNumThreads() == before
