"""Fixtures and the switch that makes a skipped test a failed one in CI."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_models as models
from turns import turn

from edgekit.cache import cache_folder as cache_folder_of_edgekit

ROOT = Path(__file__).resolve().parent.parent

#: Where the tests lie that take minutes.
LONG = (
    "tests/test_benchmarks_", "tests/examples/", "tests/packaging/", "tests/cli/test_demo_cli.py", "tests/edgekit_convert/test_",
    "tests/edgekit_convert/frontends/",
)  # fmt: skip

#: Where conversions are tested, and which of these tests are of the times that decide in them.
CONVERSIONS = ("tests/cli/", "tests/edgekit_convert/")
OF_TIMES = (
    "tests/edgekit_convert/assign/", "tests/edgekit_convert/delegate/", "tests/edgekit_convert/rewrite/",
    "tests/edgekit_convert/test_for_the_delegate.py",
)  # fmt: skip

#: The user's cache folder, before the tests put another in its place.
CACHE = cache_folder_of_edgekit()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--no-skips``: what is skipped elsewhere for want of a part must run in CI."""
    parser.addoption("--no-skips", action="store_true", help="fail where a test would skip")
    parser.addoption("--engine", default=None, help="run the tests of the device part with this interpreter")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Turn skips into failures under ``--no-skips``."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]  # pluggy's wrapper protocol is not in the hook's type
    if report.skipped and item.config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and nothing may skip here: {report.longrepr}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where several processes run tests, the files that take minutes come first: at the end one process would wait for the other."""
    if _workers() > 1:
        items.sort(key=lambda item: not item.nodeid.startswith(LONG))


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Where several processes run tests, one that is marked ``alone`` waits for the others, and they for it."""
    if _workers() > 1:
        with turn(alone=item.get_closest_marker("alone") is not None):
            yield
    else:
        yield


def _workers() -> int:
    """How many processes run tests, as pytest-xdist tells each of them."""
    return int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What is learned of delegates is remembered in a folder of the tests, not in the user's; processes inherit it."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("EDGEKIT_CACHE_DIR")
    os.environ["EDGEKIT_CACHE_DIR"] = str(folder)
    yield folder
    if before is None:
        del os.environ["EDGEKIT_CACHE_DIR"]
    else:
        os.environ["EDGEKIT_CACHE_DIR"] = before


@pytest.fixture(scope="module", autouse=True)
def short_timing(request: pytest.FixtureRequest) -> Iterator[None]:
    """Conversions time whole models for seconds; where no assertion rests on that, a thirtieth of it tells as much of tiny ones."""
    with pytest.MonkeyPatch.context() as patch:
        name = request.node.nodeid
        if name.startswith(CONVERSIONS) and not name.startswith(OF_TIMES):
            from edgekit_convert.assign import costs

            patch.setattr(costs, "_MODEL_ROUND_NS", costs._MODEL_ROUND_NS // 30)
        yield


@pytest.fixture(scope="session")
def assets() -> Path:
    """The folder with real models and data for measuring, beside the checkout."""
    folder = Path(os.environ.get("EDGEKIT_ASSETS", ROOT.parent / "shared" / "assets"))
    if not folder.is_dir():
        pytest.skip("the measuring assets are not beside this checkout (set EDGEKIT_ASSETS to their folder)")
    return folder


@pytest.fixture(scope="session")
def onnx_environment() -> Iterator[Path]:
    """The environment that reads ONNX, where this machine has it: the tests do not make it, `scripts/test` does.

    Its processes serve one test's model after the other's.
    """
    from kept_workers import KeptWorkers

    from edgekit_convert import environments
    from edgekit_convert.frontends import from_onnx

    with pytest.MonkeyPatch.context() as patch:
        if "EDGEKIT_ENVIRONMENTS_DIR" not in os.environ and CACHE is not None:
            patch.setenv("EDGEKIT_ENVIRONMENTS_DIR", os.path.join(CACHE, "environments"))
        found = environments.status("onnx", measure=False)
        if found.state != "ready":
            pytest.skip(f"the ONNX environment is {found.state}: run `edgekit setup onnx`")
        kept = KeptWorkers()
        patch.setattr(from_onnx, "Worker", kept)
        yield found.folder
        kept.close()


@pytest.fixture(scope="session")
def torch() -> Any:
    """PyTorch, where it is installed with litert-torch, which are extras of their own."""
    from edgekit.errors import ConversionError
    from edgekit_convert.frontends.from_torch.lowering import import_litert_torch, import_torch

    try:
        found = import_torch()
        import_litert_torch()
    except ConversionError as error:
        pytest.skip(str(error))
    return found


@pytest.fixture
def dense_float_file(tmp_path: Path) -> Path:
    """A tiny float model as a file."""
    path = tmp_path / "dense_float.tflite"
    path.write_bytes(models.dense_float())
    return path


@pytest.fixture
def dense_int8_file(tmp_path: Path) -> Path:
    """A tiny int8 model as a file."""
    path = tmp_path / "dense_int8.tflite"
    path.write_bytes(models.dense_int8())
    return path


@pytest.fixture
def conv_float_file(tmp_path: Path) -> Path:
    """A tiny float image classifier as a file."""
    path = tmp_path / "conv_float.tflite"
    path.write_bytes(models.conv_float())
    return path


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> str | None:
    """The interpreter to test with: ``--engine``, else the first that is installed."""
    name: str | None = request.config.getoption("--engine")
    return name
