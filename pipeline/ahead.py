"""Runs an iterator in a thread of its own, a few items ahead of its consumer. Knows nothing of what the items are."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

T = TypeVar("T")

_END: Final = object()


def ahead(items: Iterable[T], count: int = 4) -> Iterator[T]:
    """The same items in the same order, at most `count` of them made and not yet taken.

    What `items` raises is raised here, after the items before it. When the consumer stops early, the thread is waited
    for, so that nothing of `items` runs on; it stops at its next item.
    """
    made: queue.Queue[object] = queue.Queue(count)
    stop = threading.Event()
    failure: list[BaseException] = []

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                made.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as error:  # handed over, not swallowed
            failure.append(error)
        put(_END)

    thread = threading.Thread(target=work, name="revisage-ahead", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not _END:
            yield item  # type: ignore[misc]
        if failure:
            raise failure[0]
    finally:
        stop.set()
        thread.join()
