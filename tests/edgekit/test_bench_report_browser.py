"""A benchmark's page in a real browser, without a window: no error, no request, nothing too wide for a telephone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from bench_machines import board, offline_case, server_case, timed_case
from bench_reports import case
from headless_browser import Browser, browser, browser_program

from edgekit.bench import BenchmarkReport
from edgekit.bench.accuracy import Accuracy
from edgekit.bench.op_times import OpProfile, OpTime
from edgekit.bench.roofline import Roofline
from edgekit.report.bench_html import bench_page

NAME = "a_model_with_a_very_long_name_that_somebody_gave_it_v2.0_224x224_int8_per_channel.tflite"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser for all tests of this file."""
    program = browser_program()
    if program is None:
        pytest.skip("no Chromium is installed (set EDGEKIT_CHROMIUM to one)")
    with browser(program, tmp_path_factory.mktemp("browser")) as running:
        yield running


def profile() -> OpProfile:
    """Operators of every size, with names that are long."""
    ops = tuple(
        OpTime(k, f"A_RATHER_LONG_OPERATOR_{k}", "int8", "y", (900,), 1000.0 * (k + 1), 5000 * k, 400, 0, 500.0, None)
        for k in range(14)
    )
    ceiling = Roofline("xnnpack", 1, {"int8": 40.0}, {1000: 50.0, 1_000_000: 5.0})
    return OpProfile(NAME, "00", "xnnpack", 1, "litert 0", ops, 7000.0, (7000,), (6000.0,), ceiling)


def sweep() -> BenchmarkReport:
    """Delegates by threads by batches; one fails with a long reason."""
    cases = [
        timed_case(NAME, 1.0 + k, launches=2, delegate=delegate, threads=threads, batch=batch)
        for k, (delegate, threads, batch) in enumerate(
            (delegate, threads, batch) for delegate in ("xnnpack", "none") for threads in (1, 2, 4) for batch in (1, 8)
        )
    ]
    return board(
        *cases, case(NAME, error="no/white/space/to/break/the/line/at/" * 9, delegate="gpu", threads=1, batch=1)
    )


def written(folder: Path, kind: str) -> Path:
    """A page of this kind as a file."""
    known = {
        (f"{k}{NAME}", str(k) * 64): Accuracy("accuracy", 0.5 + k / 20, 0.4, 0.95, "90 samples of x.npz")
        for k in range(8)
    }
    eight = board(*(timed_case(f"{k}{NAME}", 0.05 * 3**k, launches=3, sha256=str(k) * 64) for k in range(8)))
    reports = {
        "single": board(timed_case(NAME, 2.0)),
        "sweep": sweep(),
        "server": board(server_case()),
        "offline": board(offline_case()),
        "eight": eight,
        "stopped": board(timed_case("m", 2.0, launches=1), case("late"), interrupted=True),
        "hostile": board(timed_case("<script>throw 1</script><img src=http://127.0.0.1/x>", 2.0)),
    }
    if kind == "pair":
        slower = dataclasses.replace(
            board(timed_case(NAME, 3.0)), host={"cpu_model": {"value": "x" * 200, "source": "y"}}
        )
        page = bench_page([("before.json", reports["single"]), ("after.json", slower)], profiles=[profile()])
    else:
        page = bench_page([("", reports[kind])], accuracy=known)
    path = folder / f"{kind}.html"
    path.write_text(page, encoding="utf-8")
    return path


KINDS = ("single", "sweep", "server", "offline", "eight", "stopped", "hostile", "pair")
OPEN = "document.querySelectorAll('details').forEach(item => { item.open = true })"


@pytest.mark.parametrize("kind", KINDS)
def test_page_works_on_a_telephone(chromium: Browser, tmp_path: Path, kind: str) -> None:
    """At 390 pixels, with everything unfolded, nothing reaches over the edge; no error is logged, nothing is asked for."""
    seen = chromium.look(written(tmp_path, kind), width=390, script=OPEN)
    assert ((), (), 0, ()) == (seen.errors, seen.requests, seen.overflow, seen.cut)


@pytest.mark.parametrize("kind", ["single", "sweep"])
def test_page_follows_the_system_s_colours(chromium: Browser, tmp_path: Path, kind: str) -> None:
    """The same page is another picture when the system is dark, without any error."""
    path = written(tmp_path, kind)
    light, dark = (chromium.look(path, width=1280, dark=value) for value in (False, True))
    assert ((), ()) == (light.errors + dark.errors, light.requests + dark.requests)
    assert light.png != dark.png


def test_helper_sees_what_is_wrong(chromium: Browser, tmp_path: Path) -> None:
    """An error, a request and a line that is too wide are each found: the tests above can fail."""
    path = tmp_path / "bad.html"
    path.write_text(
        '<!doctype html><meta name="viewport" content="width=device-width"><main><p style="width:900px;white-space:nowrap">'
        + "wide " * 99
        + "</p></main>"
        '<img src="http://127.0.0.1:9/x.png"><script>console.error("wrong")</script>'
    )
    seen = chromium.look(path, width=390)
    assert ("http://127.0.0.1:9/x.png",) == seen.requests
    assert any("wrong" in text for text in seen.errors)
    assert seen.overflow > 400
    assert seen.cut
