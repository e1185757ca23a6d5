"""The short way: a run of one array in and one out as one function, bound to the interpreter's own calls.

It is ``Session.run``'s meaning without the calls between: for a model of a few microseconds each further call would be felt. It
takes arrays of just the right dtype and shape; for everything else, and to say what is wrong, it goes the long way.
"""

from __future__ import annotations

import math
import time
from _queue import Empty  # what queue has, without its import of threading
from collections.abc import Callable
from typing import Any

import numpy as np

from edgekit.runtime.engines.interpreter import FOREIGN
from edgekit.runtime.latency import LatencyLog
from edgekit.runtime.turns import Turns
from edgekit.tensors import LIMITS, Array, QuantParams

#: Setting the only input, running, getting the only output.
Calls = tuple[Callable[[Array], object], Callable[[], object], Callable[[], Array]]

#: A scale below this could overflow in the division of what the look at the values lets pass.
_LEAST_SCALE = 1e-18
#: More values than this are not worth memory of their own; a damaged file may claim any number.
_MOST_VALUES = 1 << 24
#: Values that are quantised at once: they stay in a core's own cache, and of a large input only so many are held as real numbers.
_PART = 16_384
_FLOAT32 = np.dtype(np.float32)


def short_way(
    calls: Calls, turn: Turns, log: LatencyLog, *, looks: bool, go_on: Callable[[Any, dict[str, Any], int], Any]
) -> tuple[Callable[..., Any], list[bool]]:
    """The function.

    Args:
        calls: the calls; setting raises ``TypeError`` or one of ``FOREIGN`` for an array that it does not take.
        turn: who may run.
        log: notes each run.
        looks: whether to look for NaN and infinity.
        go_on: the long way: the value, the named values, and when the caller asked in nanoseconds.

    Returns:
        ``run``, and a list: emptied, it sends all runs the long way, as must be when the calls are no longer right.
    """
    put, invoke, get = calls
    clock, vdot, isfinite = time.perf_counter_ns, np.vdot, math.isfinite
    take_now, put_back, waiting = turn.take_now, turn.put_back, turn.waiting
    add = log.add_ns
    open_ = [True]

    def run(value: Any = None, /, **named: Any) -> Any:
        start = clock()
        queue = 0
        try:
            take_now()
        except Empty:
            turn.enter()
            queue = clock() - start
        try:
            if open_ and not named:
                put(value)  # refuses what is of another dtype or shape
                if not looks or isfinite(vdot(value, value)):
                    before = clock()
                    invoke()
                    after = clock()
                    array = get()
                    add(start, queue, before - start - queue, after - before, clock() - after)
                    return array
        except (*FOREIGN, TypeError):
            pass  # the long way says what is wrong, or goes on with the next delegate
        finally:
            if waiting:
                turn.leave()
            else:
                put_back(None)
                if waiting:  # came in between: see that the turn is not forgotten
                    turn.remind()
        return go_on(value, named, start)

    return run, open_


def quantising(put: Callable[[Array], object], quant: QuantParams, dtype: str, shape: tuple[int, ...]) -> Any:
    """``put`` for float32 arrays of this shape: ``tensors.quantize`` with all that does not change made once.

    Returns:
        A function that raises ``TypeError`` for any other array, and for values that are not finite or too large to be looked at by
        one pass of BLAS; ``None`` where there is no short way.
    """
    if dtype not in ("int8", "uint8", "int16") or not quant.per_tensor or not quant.scales[0] > _LEAST_SCALE:
        return None
    if math.prod(shape) > _MOST_VALUES:
        return None
    scale = np.array(quant.scales[0], np.float32)
    zero = np.array(quant.zero_points[0], np.float32) if quant.zero_points[0] else None
    low, high = LIMITS[dtype]
    integers = np.empty(shape, dtype)
    count = integers.size
    work, flat = np.empty(min(count, _PART), np.float32), integers.reshape(-1)
    parts = [
        (slice(start, start + _PART), work[: count - start], flat[start : start + _PART])
        for start in range(0, count, _PART)
    ]
    divide, rint, add, vdot, isfinite, ndarray = np.divide, np.rint, np.add, np.vdot, math.isfinite, np.ndarray

    def put_real(value: Any) -> None:
        if type(value) is not ndarray or value.dtype != _FLOAT32 or value.shape != shape:
            raise TypeError
        values = value.reshape(-1)
        if not isfinite(vdot(values, values)):
            raise TypeError
        for place, real, result in parts:
            divide(values[place], scale, real)
            rint(real, real)
            if zero is not None:
                add(real, zero, real)
            real.clip(low, high, real)
            result[...] = real
        put(integers)

    return put_real


def dequantising(get: Callable[[], Array], quant: QuantParams) -> Callable[[], Array]:
    """``get`` as ``tensors.dequantize`` gives it: float32 arrays that belong to the caller."""
    scale = np.array(quant.scales[0], np.float32)
    zero = np.array(quant.zero_points[0], np.float32) if quant.zero_points[0] else None
    subtract, multiply = np.subtract, np.multiply

    def get_real() -> Array:
        work = get().astype(_FLOAT32)
        if zero is not None:
            subtract(work, zero, work)
        multiply(work, scale, work)
        return work

    return get_real
