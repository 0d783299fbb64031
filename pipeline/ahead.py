"""Runs an iterator in a thread of its own, a few items ahead of its consumer. Knows nothing of what the items are."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Final, TypeVar

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
