"""``edgekit.runtime.isolate``: a model in a process of its own, whatever that process does."""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_models as models
from processes import run_python

from edgekit.errors import EngineError, FaultError, OptionError, TensorError
from edgekit.modelfile import ModelFile
from edgekit.runtime import isolate_process
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.isolate import Isolated
from edgekit.runtime.session import Session

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="isolation needs a POSIX system")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can limit a process's memory")
CHOICE = DelegateChoice(DelegateSpec("none", 1), "the tests")


@pytest.fixture
def isolated(engine: str | None) -> Iterator[Callable[..., Isolated]]:
    """Loads models, and ends their processes."""
    made: list[Isolated] = []

    def load(content: bytes, **options: Any) -> Isolated:
        made.append(Isolated(ModelFile.read(content), CHOICE, engine=engine, **options))
        return made[-1]

    yield load
    for item in made:
        item.close()


def slow(size: int = 2500, steps: int = 40) -> bytes:
    """A small file that computes for many seconds: a number, spread over a large matrix, times itself, again and again."""
    b = models.Builder()
    x = b.tensor("x", (1, 1))
    shape = b.tensor("shape", (2,), "int32", data=np.array([size, size], np.int32))
    work = b.tensor("wide", (size, size))
    b.op("BROADCAST_TO", [x, shape], [work], ("BroadcastToOptions", models.schema.BroadcastToOptionsT()), version=2)
    for number in range(steps):
        product = b.tensor(f"product_{number}", (size, size))
        b.op("BATCH_MATMUL", [work, work], [product], ("BatchMatMulOptions", models.schema.BatchMatMulOptionsT()))
        work = product
    return b.build({"x": x}, {"y": work})


X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(1, 8)


def gone(pid: int) -> bool:
    """Whether a process is no more, not even as a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def wait_for(what: Callable[[], bool], seconds: float = 30) -> bool:
    """Whether it comes true in time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class TestSameFace:
    """What a session does, from another process."""

    @pytest.mark.parametrize("io", ["float", "native"])
    def test_same_results(self, isolated: Callable[..., Isolated], engine: str | None, io: str) -> None:
        """Arrays, types and values are the session's own."""
        content = models.dense_int8()
        x = X if io == "float" else np.arange(8, dtype=np.int8).reshape(1, 8)
        with Session(ModelFile.read(content), CHOICE, engine=engine, io=io) as session:
            expected = session.run(x)
            about = session.inputs, session.outputs, session.engine, session.partitions, session.got, session.asked
        seen = isolated(content, io=io)
        result = seen(x)
        np.testing.assert_array_equal(expected, result)
        assert expected.dtype == result.dtype
        assert result.flags.writeable
        assert about == (seen.inputs, seen.outputs, seen.engine, seen.partitions, seen.got, seen.asked)

    def test_several(self, isolated: Callable[..., Isolated]) -> None:
        """Several inputs by name, several outputs as a dict."""
        model = isolated(models.add_two_inputs())
        a, b = np.full((1, 4), 3, np.float32), np.full((1, 4), 1, np.float32)
        for result in (model.run(a=a, b=b), model.run({"b": b, "a": a})):
            assert {"sum": [[4.0] * 4], "difference": [[2.0] * 4]} == {k: v.tolist() for k, v in result.items()}

    def test_open_sizes(self, isolated: Callable[..., Isolated]) -> None:
        """A batch of any size, also a large one."""
        model = isolated(models.dense_float(open_batch=True))
        for count in (1, 3, 100_000):
            assert (count, 4) == model.run(np.repeat(X, count, axis=0)).shape

    def test_large_arrays(self, isolated: Callable[..., Isolated], engine: str | None) -> None:
        """Inputs far larger than what a pipe holds arrive whole."""
        content = models.conv_float(size=600)
        image = np.random.default_rng(0).normal(size=(1, 600, 600, 3)).astype(np.float32)
        with Session(ModelFile.read(content), CHOICE, engine=engine) as session:
            np.testing.assert_array_equal(session.run(image), isolated(content).run(image))

    def test_times(self, isolated: Callable[..., Isolated]) -> None:
        """Each run is noted, with what it waited in the caller's queue."""
        model = isolated(models.dense_float())
        since = time.perf_counter_ns() - 5_000_000
        model.run_queued(X, since)
        model.run(X)
        first, second = model.latency.records()
        assert (since, True) == (first.start_ns, first.queue_ns >= 5_000_000)
        assert second.invoke_ns > 0

    def test_log(self, isolated: Callable[..., Isolated], tmp_path: Path) -> None:
        """The file says that the model was isolated."""
        model = isolated(models.dense_float(), log=tmp_path / "log.jsonl")
        model.run(X)
        model.close()
        assert '"isolated":true' in (tmp_path / "log.jsonl").read_text().replace(" ", "")

    def test_reset(self, isolated: Callable[..., Isolated]) -> None:
        """A reset is passed on."""
        model = isolated(models.dense_float())
        before = model.run(X)
        model.reset()
        np.testing.assert_array_equal(before, model.run(X))

    def test_batch(self, isolated: Callable[..., Isolated]) -> None:
        """Many samples in order."""
        model = isolated(models.dense_float())
        results = list(model.batch([X[0], 2 * X[0]]))
        np.testing.assert_array_equal(model.run(2 * X), np.reshape(results[1], (1, 4)))

    def test_threads(self, isolated: Callable[..., Isolated]) -> None:
        """Threads share one; each gets its own result."""
        model = isolated(models.dense_float())
        inputs = [np.full((1, 8), number, np.float32) for number in range(8)]
        expected = [model.run(item) for item in inputs]
        seen: dict[int, list[Any]] = {}

        def work(number: int) -> None:
            seen[number] = [model.run(inputs[number]) for _ in range(20)]

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, results in seen.items():
            np.testing.assert_array_equal(np.repeat(expected[number][None], 20, axis=0), results)
        assert list(range(8)) == sorted(seen)


class TestErrors:
    """What is wrong is said by the same errors."""

    def test_wrong_shape(self, isolated: Callable[..., Isolated]) -> None:
        """The other side's message, and the process goes on."""
        model = isolated(models.dense_float())
        pid = model.pid
        with pytest.raises(TensorError, match=r"input 'x' has shape \[1, 9\], expected \[1, 8\]"):
            model.run(np.zeros((1, 9), np.float32))
        with pytest.raises(TensorError, match="missing input x: the model has x float32"):
            model.run({})
        assert (1, 4) == model.run(X).shape
        assert (pid, 0) == (model.pid, model.lost)

    def test_not_numbers(self, isolated: Callable[..., Isolated]) -> None:
        """What has no plain numbers is not sent at all."""
        model = isolated(models.dense_float())
        for value in (["a"] * 8, [[1, 2], [3]], np.array([object()])):
            with pytest.raises(TensorError, match=r"numbers were expected|is not an array|has shape"):
                model.run(value)

    def test_unknown_operator(self, isolated: Callable[..., Isolated]) -> None:
        """The interpreter's refusal comes through, and names the model."""
        with pytest.raises(EngineError, match=r"cannot run the model: .*Mystery") as caught:
            isolated(models.custom_op())
        assert not isinstance(caught.value, FaultError)

    @pytest.mark.parametrize("options", [{"timeout_ms": 0}, {"timeout_ms": 1.5}, {"memory_mb": -1}, {"io": "both"}])
    def test_wrong_options(self, isolated: Callable[..., Isolated], options: dict[str, Any]) -> None:
        """Limits are numbers of at least 1."""
        with pytest.raises(OptionError):
            isolated(models.dense_float(), **options)

    def test_closed(self, isolated: Callable[..., Isolated]) -> None:
        """A closed one says so, and its process is gone."""
        model = isolated(models.dense_float())
        pid = model.pid
        assert pid is not None
        model.close()
        model.close()
        assert gone(pid)
        with pytest.raises(EngineError, match="the session is closed"):
            model.run(X)


class TestLostProcess:
    """Crashes, hangs and limits."""

    @pytest.mark.parametrize("name", ["SIGSEGV", "SIGFPE", "SIGABRT", "SIGKILL"])
    def test_crash(self, isolated: Callable[..., Isolated], name: str) -> None:
        """The error names the signal; the next run starts anew."""
        model = isolated(models.dense_float())
        expected, pid = model.run(X), model.pid
        assert pid is not None
        os.kill(pid, signal.Signals[name])
        with pytest.raises(
            FaultError, match=f"its process died of {name} while it ran .* There is no result"
        ) as caught:
            model.run(X)
        assert (name, False, 1) == (caught.value.signal, caught.value.timed_out, model.lost)
        assert gone(pid)
        np.testing.assert_array_equal(expected, model.run(X))

    def test_no_restart(self, isolated: Callable[..., Isolated]) -> None:
        """With ``restart=False`` a lost process stays lost."""
        model = isolated(models.dense_float(), restart=False)
        assert model.pid is not None
        os.kill(model.pid, signal.SIGSEGV)
        with pytest.raises(FaultError):
            model.run(X)
        with pytest.raises(EngineError, match="its process was lost, and restart=False leaves it so"):
            model.run(X)

    def test_crash_while_it_computes(self, isolated: Callable[..., Isolated]) -> None:
        """A process that dies in the middle of a run gives no result."""
        model = isolated(slow())
        pid = model.pid
        assert pid is not None
        timer = threading.Timer(0.3, os.kill, (pid, signal.SIGBUS))
        timer.start()
        with pytest.raises(FaultError, match="died of SIGBUS"):
            model.run(np.ones((1, 1), np.float32))
        timer.join()
        assert gone(pid)

    def test_time_limit(self, isolated: Callable[..., Isolated]) -> None:
        """A run that takes longer than it may is ended, and the error names the limit."""
        model = isolated(slow(), timeout_ms=300)
        pid = model.pid
        assert pid is not None
        with pytest.raises(FaultError, match="not done after 300 ms while it ran; its process was ended") as caught:
            model.run(np.ones((1, 1), np.float32))
        assert (True, None) == (caught.value.timed_out, caught.value.signal)
        assert gone(pid)

    @linux
    def test_memory_limit(self, isolated: Callable[..., Isolated]) -> None:
        """A model that wants more memory than it may have is an error, and the program goes on."""
        content = slow(size=8000, steps=1)  # two matrices of 244 MiB
        with pytest.raises(EngineError, match=r"64 MiB|not enough memory"):
            isolated(content, memory_mb=64).run(np.ones((1, 1), np.float32))

    @linux
    def test_the_process_dies_with_the_program(self, tmp_path: Path, engine: str | None) -> None:
        """Killed while a model runs, the program leaves no process behind: a timer of the kernel's ends it."""
        (tmp_path / "slow.tflite").write_bytes(slow())
        code = f"""
import os, signal, threading, numpy as np
from edgekit.modelfile import ModelFile
from edgekit.runtime.delegates import DelegateChoice, DelegateSpec
from edgekit.runtime.isolate import Isolated
model = Isolated(ModelFile.read({str(tmp_path / "slow.tflite")!r}), DelegateChoice(DelegateSpec("none", 1), ""),
                 timeout_ms=1000, engine={engine!r})
print(model.pid, flush=True)
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
model.run(np.ones((1, 1), np.float32))
"""
        done = run_python("-c", code)
        assert -signal.SIGKILL == done.returncode
        pid = int(done.stdout)
        assert wait_for(lambda: gone(pid) or Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] == "Z")


@dataclass(frozen=True)
class Nonsense:
    """What a process sends instead of an answer, as an expression, and words of the message."""

    id: str
    sent: str
    words: str


HEAD = "struct.pack('<4sBIIQ', b'EKi1', {}, 0, {}, {})"
NONSENSE = [
    Nonsense("text", "b'Segmentation fault: have a nice day' * 9", "it begins with b'Segm'"),
    Nonsense("endless text", HEAD.format(10, 1 << 31, 0), "it announces 2147483648 and 0 bytes"),
    Nonsense(
        "endless arrays", HEAD.format(10, 2, 1 << 60) + " + b'{}'", "it announces 2 and 1152921504606846976 bytes"
    ),
    Nonsense("another kind", HEAD.format(12, 2, 0) + " + b'{}'", "it answers another request"),
    Nonsense("no JSON", HEAD.format(10, 2, 0) + " + b'{['", "its JSON part cannot be read"),
    Nonsense("no object", HEAD.format(10, 2, 0) + " + b'[]'", "its JSON part is no object"),
    Nonsense("deep JSON", HEAD.format(10, 200000, 0) + " + b'[' * 200000", "its JSON part cannot be read"),
]


@pytest.mark.parametrize("case", NONSENSE, ids=lambda case: case.id)
def test_nonsense(case: Nonsense, monkeypatch: pytest.MonkeyPatch, isolated: Callable[..., Isolated]) -> None:
    """A process that sends anything else than an answer is ended, and the error says what came."""
    code = f"import os, struct, time; os.write(1, {case.sent}); time.sleep(60)"
    monkeypatch.setattr(isolate_process, "_START", code)
    with pytest.raises(FaultError, match=f"sent an answer that is none .{re.escape(case.words)}"):
        isolated(models.dense_float())


def test_a_process_that_says_why(monkeypatch: pytest.MonkeyPatch, isolated: Callable[..., Isolated]) -> None:
    """What it printed last is quoted, cut and made harmless, with its exit code."""
    code = r"import os; os.write(2, b'x' * 100000 + b'\n\x1b[31mno more\xff'); os._exit(3)"
    monkeypatch.setattr(isolate_process, "_START", code)
    with pytest.raises(FaultError, match=r"ended with exit code 3 while it started.* x+ \?\[31mno more") as caught:
        isolated(models.dense_float())
    assert len(str(caught.value)) < 1000


class TestNothingIsLeft:
    """Descriptors, processes and locks."""

    @pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files through /proc")
    def test_descriptors(self, isolated: Callable[..., Isolated]) -> None:
        """Faults, restarts and refusals leave nothing open."""

        def count() -> int:
            gc.collect()
            return len(os.listdir("/proc/self/fd"))

        isolated(models.dense_float()).close()
        before = count()
        for _ in range(3):
            model = isolated(models.dense_float())
            assert model.pid is not None
            os.kill(model.pid, signal.SIGSEGV)
            with pytest.raises(FaultError):
                model.run(X)
            model.run(X)
            model.close()
            with pytest.raises(EngineError):
                isolated(models.custom_op())
        assert before == count()

    def test_forgotten(self, engine: str | None) -> None:
        """One that nobody closed ends its process when it is collected."""
        model = Isolated(ModelFile.read(models.dense_float()), CHOICE, engine=engine)
        pid = model.pid
        assert pid is not None
        del model
        gc.collect()
        assert gone(pid)

    def test_closed_while_it_runs(self, isolated: Callable[..., Isolated]) -> None:
        """Closing does not wait for a run that takes minutes: the run ends with an error."""
        model = isolated(slow())
        pid = model.pid
        assert pid is not None
        seen: list[EngineError] = []

        def work() -> None:
            try:
                model.run(np.ones((1, 1), np.float32))
            except EngineError as error:
                seen.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.3)
        model.close()
        thread.join()
        assert gone(pid)
        assert [FaultError] == [type(error) for error in seen]

    def test_fork(self, isolated: Callable[..., Isolated]) -> None:
        """A forked child cannot use the parent's process, nor end it."""
        model = isolated(models.dense_float())
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                model.run(X)
            except EngineError as error:
                os.write(writing, str(error).encode())
            model.close()
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert b"this process was forked after the model was loaded" in pipe.read()
        os.waitpid(child, 0)
        assert (1, 4) == model.run(X).shape
