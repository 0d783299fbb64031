"""Threads: runs an iterator in one of its own, a few items ahead of its consumer, and keeps OpenCV from starting more.

Knows nothing of what the items are.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Final, TypeVar

import cv2

T = TypeVar("T")

_END: Final = object()


def ahead(items: Iterable[T], count: int = 4) -> Iterator[T]:
    """The same items in the same order, at most `count` of them made and not yet taken.

    What `items` raises is raised here, after the items before it. When the consumer stops early, the thread is waited
    for, so that nothing of `items` runs on; it stops at its next item.
    """
    made: SimpleQueue[object] = SimpleQueue()
    room: SimpleQueue[None] = SimpleQueue()  # an entry for every item that may be made; both queues never spin
    stop = threading.Event()
    failure: list[BaseException] = []
    for _ in range(count):
        room.put(None)

    def work() -> None:
        try:
            for item in items:
                room.get()
                if stop.is_set():
                    return
                made.put(item)
        except BaseException as error:  # handed over, not swallowed
            failure.append(error)
        made.put(_END)

    thread = threading.Thread(target=work, name="revisage-ahead", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not _END:
            room.put(None)
            yield item  # type: ignore[misc]
        if failure:
            raise failure[0]
    finally:
        stop.set()
        room.put(None)
        thread.join()


@contextmanager
def single_threaded_opencv() -> Iterator[None]:
    """Within it, OpenCV works on the thread that calls it and on no other.

    Its helpers wait for work in a loop, and pictures as small as faces give them little: corners of a picture of
    320 x 240 take 2.3 ms of two processors or 0.9 ms of one. The setting is the process's; it is put back afterwards.
    """
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
