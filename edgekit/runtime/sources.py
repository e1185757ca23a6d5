"""What a stream may be fed from, and the two ways of feeding it: a thread for what blocks, a coroutine for what awaits.

Neither holds the stream itself, so that a stream which nobody keeps can go and end them.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any

from edgekit.errors import DataError
from edgekit.runtime.feed import Feed


def values_of(source: Any) -> tuple[Callable[[], Iterable[Any]] | None, Callable[[], AsyncIterator[Any]] | None]:
    """Find out what kind of source it is.

    Args:
        source: an iterable, an async iterable, a function that returns the next item and ``None`` at the end, a coroutine function
            that does, or a generator function.

    Returns:
        What opens a plain source, or else what opens an async one.

    Raises:
        DataError: it is none of these.
    """
    if not isinstance(source, str | bytes | Mapping):
        if hasattr(source, "__aiter__"):
            return None, lambda: aiter(source)
        if hasattr(source, "__iter__") or hasattr(source, "__getitem__"):
            return lambda: iter(source), None
        if inspect.isasyncgenfunction(source):
            return None, source
        if inspect.isgeneratorfunction(source):
            return source, None
        if inspect.iscoroutinefunction(source):
            return None, lambda: _awaited(source)
        if callable(source):
            return lambda: _called(source), None
    raise DataError(
        f"a {type(source).__name__} was given as the source of a stream: an iterable, an async iterable, or a function that "
        "returns the next item (None at the end) was expected."
    )


def _called(function: Callable[[], Any]) -> Iterator[Any]:
    while True:
        try:
            value = function()
        except StopIteration:
            return
        if value is None:
            return
        yield value


async def _awaited(function: Callable[[], Any]) -> AsyncIterator[Any]:
    while True:
        try:
            value = await function()
        except StopAsyncIteration:
            return
        if value is None:
            return
        yield value


def pump(feed: Feed, opened: Callable[[], Iterable[Any]]) -> None:
    """Feed from a source that blocks; the body of a thread."""
    error: BaseException | None = None
    try:
        for value in opened():
            feed.offer(feed.capture(value))
            del value  # the queue alone decides how long an item is kept
            if feed.closed:
                break
    except BaseException as caught:  # whatever it is, it is the consumer's to see
        error = caught
    feed.end(error)


async def pump_async(feed: Feed, opened: Callable[[], AsyncIterator[Any]]) -> None:
    """Feed from a source that awaits; cancelled by the feed's closing."""
    import asyncio

    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    room = asyncio.Event()

    def changed() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(task.cancel if feed.closed and task is not None else room.set)

    feed.listen(changed)
    error: BaseException | None = None
    try:
        async for value in opened():
            item = feed.capture(value)
            del value
            while True:
                room.clear()
                if feed.try_offer(item):
                    break
                await room.wait()
            del item
            if feed.closed:
                break
    except asyncio.CancelledError:
        if not feed.closed:
            feed.end()
            raise
    except BaseException as caught:
        error = caught
    feed.end(error)


def pump_loop(feed: Feed, opened: Callable[[], AsyncIterator[Any]]) -> None:
    """Feed from a source that awaits, in an event loop of its own; the body of a thread."""
    import asyncio

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(pump_async(feed, opened))
