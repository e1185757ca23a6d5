"""Sessions on the Edge TPU, on stand-in libraries compiled here: what runs there, what does not, and why."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable

import numpy as np
import pytest
import standin_delegates as standins
import tiny_models as models

import edgekit
from edgekit.errors import DelegateError, EngineError
from edgekit.runtime import delegates, edgetpu
from edgekit.runtime.delegates import DelegateSpec
from edgekit.runtime.edgetpu import each_device, probe_edgetpu
from edgekit.runtime.pool import Pool

Use = Callable[[str], str]
X = np.array([[-5.0, -1.0, 0.0, 3.0]], np.float32)


@pytest.fixture
def use(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Use:
    """Put a stand-in in libedgetpu's place; its path."""
    if shutil.which("gcc") is None:
        pytest.skip("the stand-ins for libedgetpu are compiled with gcc, which is not installed")

    def put(behaviour: str) -> str:
        library = str(standins.standin_edgetpu(tmp_path_factory.mktemp("edgetpu"), behaviour))
        monkeypatch.setattr(delegates, "edgetpu_library", lambda: library)
        return library

    return put


def test_it_runs(use: Use, engine: str | None) -> None:
    """The compiled part runs on the stand-in, which adds 1."""
    use("works")
    with edgekit.load(standins.compiled_model(), delegate="edgetpu", engine=engine, require="edgetpu") as session:
        np.testing.assert_array_equal(X + 1, session.run(X))
        assert "edgetpu: 1 of 1 operators in 1 partition" == str(session.partitions)


def test_what_the_compiler_left_is_no_part_of_it(use: Use, engine: str | None) -> None:
    """XNNPACK may take the operators behind the compiled part: they are outside all the same, and not what was required."""
    use("works")
    content = standins.compiled_model(then_relu=True)
    with edgekit.load(content, delegate="edgetpu", engine=engine) as session:
        np.testing.assert_array_equal(np.maximum(X + 1, 0), session.run(X))
        assert (((0,),), (1,)) == (session.partitions.partitions, session.partitions.outside)
        assert "edgetpu: 1 of 2 operators in 1 partition; outside: RELU" == str(session.partitions)
        assert "edgetpu" == session.got
    with pytest.raises(DelegateError, match=r"edgetpu was required to take the whole model, and got .*outside: RELU"):
        edgekit.load(content, delegate="edgetpu", engine=engine, require="edgetpu")


def test_a_model_that_was_not_compiled(use: Use, engine: str | None) -> None:
    """It would run on the CPU without a word: refused, with what to do."""
    use("works")
    with pytest.raises(DelegateError, match=r"was not compiled for the Edge TPU .* run `edgetpu_compiler`"):
        edgekit.load(models.dense_int8(), delegate="edgetpu", engine=engine)


@pytest.mark.parametrize("behaviour", ["crash, load", "crash, open", "crash, model", "crash, run"])
def test_a_crash_is_an_error(behaviour: str, use: Use, engine: str | None) -> None:
    """What would end the program is found out in another process, whatever the step; this one goes on."""
    use(behaviour)
    with pytest.raises(DelegateError, match=r"crashed while .* died of SIGSEGV"):
        edgekit.load(standins.compiled_model(), delegate="edgetpu", engine=engine)
    with edgekit.load(models.dense_float(), delegate="xnnpack", engine=engine) as session:
        assert (1, 4) == session.run(np.ones((1, 8), np.float32)).shape


def test_a_model_for_a_newer_runtime(use: Use, engine: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both versions and both remedies are named, also where the library was proven before."""
    use("older runtime")
    content = standins.compiled_model(runtime=14)
    with pytest.raises(DelegateError, match="compiled for Edge TPU runtime 14, and the library is runtime 13"):
        edgekit.load(content, delegate="edgetpu", engine=engine)
    monkeypatch.setattr(edgetpu, "is_proven", lambda library, name: True)
    with pytest.raises(EngineError, match=r"the library is runtime 13: .* said: .*Package requires runtime version"):
        edgekit.load(content, delegate="edgetpu", engine=engine)


def test_a_device_that_goes_away(use: Use, engine: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that fails says what to do with the device."""
    use("unplugged in a run")
    monkeypatch.setattr(edgetpu, "is_proven", lambda library, name: True)
    with (
        edgekit.load(standins.compiled_model(), delegate="edgetpu", engine=engine) as session,
        pytest.raises(EngineError, match=r"the Edge TPU does not answer\. Pull it out .*USB transfer error 5"),
    ):
        session.run(X)


def test_several_devices(use: Use, engine: str | None) -> None:
    """One session for each device: the stand-in's second one adds 2."""
    library = use("two devices")
    specs = each_device(probe_edgetpu(None, library=library))
    for spec, added in zip(specs, (1, 2), strict=True):
        with edgekit.load(standins.compiled_model(), delegate=spec, engine=engine) as session:
            np.testing.assert_array_equal(X + added, session.run(X))


def test_a_pool_of_devices(use: Use, engine: str | None) -> None:
    """A pool's workers may each have their own device."""
    use("two devices")
    workers = [
        functools.partial(
            edgekit.load, standins.compiled_model(), delegate=DelegateSpec("edgetpu", options={"device": f":{index}"}),
            engine=engine,
        )
        for index in range(2)
    ]  # fmt: skip
    with Pool(workers) as pool:
        assert 2 == len(pool)
        added = [float(result[0, 0] - X[0, 0]) for result in pool.map([X] * 40)]
    assert (40, set()) == (len(added), set(added) - {1.0, 2.0})


def test_an_isolated_session(use: Use, engine: str | None) -> None:
    """What is asked for wrongly is told by the process of its own too."""
    use("works")
    with pytest.raises(DelegateError, match="the Edge TPU's option device='usb0'"):
        edgekit.load(
            standins.compiled_model(), delegate=DelegateSpec("edgetpu", options={"device": "usb0"}), engine=engine, isolate=True,
            timeout_ms=60_000,
        )  # fmt: skip
