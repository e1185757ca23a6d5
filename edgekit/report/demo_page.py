"""The demo's report: what was trained, how it was proven, how fast it is, as one page."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from edgekit.bench.results import FIELDS
from edgekit.preprocess import resize
from edgekit.report import html
from edgekit.report.fields import table
from edgekit.report.png import grey_png
from edgekit.report.svg import Bar
from edgekit.report.units import milliseconds, percent, share_text, size_text, times
from edgekit.tensors import Array

if TYPE_CHECKING:
    from edgekit.bench import BenchmarkReport
    from edgekit.demo import DemoResult
    from edgekit.host import HostFacts
    from edgekit.runtime.delegates import DelegateChoice
    from edgekit_convert import Conversion
    from edgekit_convert.verify.intervals import Interval

_SHOWN = 20
_SIDE = 64
#: The processor features worth a line: those that its kernels can use.
_SIMD = ("sse4", "avx", "amx", "fma", "f16c", "neon", "asimd", "sve", "i8mm", "bf16")


def _share(figure: Interval) -> str:
    return share_text(figure.value, figure.low, figure.high)


def demo_page(
    result: DemoResult,
    conversion: Conversion,
    benchmark: BenchmarkReport,
    plan: DelegateChoice,
    host: HostFacts,
    test: tuple[Array, Array],
    scores: Array,
    in_app_p50_ns: int,
) -> str:
    """Build the report.

    Args:
        result: the figures.
        conversion: the int8 model and its proof.
        benchmark: of the float model and the int8 model, in this order.
        plan: the delegate for the int8 model.
        host: what this machine is.
        test: the test images ``[n, 8, 8, 1]``, values 0 to 16, and their digits.
        scores: the int8 model's output for each of them, ``[n, 10]``.
        in_app_p50_ns: median time of these runs.

    Returns:
        HTML.
    """
    from edgekit import __version__

    drop = conversion.report.on["verify"].metric.drop  # type: ignore[union-attr]  # _result has looked

    # Without a digit on which the two differ in being right, the interval has no width and says nothing.
    spread = f" ({100 * drop.low:.2f} to {100 * drop.high:.2f})" if drop.low < drop.high else ""

    def accuracy(label: str, figure: Interval, series: int) -> Bar:
        return Bar(label, 100 * figure.value, percent(figure.value), 100 * figure.low, 100 * figure.high, series)

    samples = [[ns / 1e6 for launch in case.launches for ns in launch.total_ns] for case in benchmark.cases]
    parts: list[html.Part] = [
        html.Tiles(
            [
                html.Tile("int8 accuracy", percent(result.int8_accuracy.value), f"float {percent(result.float_accuracy.value)}"),
                html.Tile("same answer as float", percent(result.agreement.value), f"of {result.test_count} test digits"),
                html.Tile("smaller", times(result.size_ratio), f"{size_text(result.float_bytes)} → {size_text(result.int8_bytes)}"),
                html.Tile("faster", times(result.latency_ratio), f"{milliseconds(result.float_p50_ns)} → {milliseconds(result.int8_p50_ns)}"),
            ]
        ),
        html.Row(
            [
                html.Bars(
                    "Accuracy on test digits", "%",
                    [accuracy("float", result.float_accuracy, 0), accuracy("int8", result.int8_accuracy, 1)],
                    f"Lines are 95 % intervals over {result.test_count} digits. int8 loses "
                    f"{100 * drop.value:.2f} points{spread}.",
                    top=100,
                ),
                html.Bars(
                    "File size", "kB",
                    [
                        Bar("float.tflite", result.float_bytes / 1000, size_text(result.float_bytes), series=0),
                        Bar("int8.tflite", result.int8_bytes / 1000, size_text(result.int8_bytes), series=1),
                    ],
                    "1 kB is 1000 bytes. The int8 file has its manifest with the proof inside.",
                ),
                html.Bars(
                    "Time of one run, median", "ms",
                    [
                        Bar("float", result.float_p50_ns / 1e6, milliseconds(result.float_p50_ns), series=0),
                        Bar("int8", result.int8_p50_ns / 1e6, milliseconds(result.int8_p50_ns), series=1),
                    ],
                    f"One thread, {benchmark.cases[0].launches[0].got['delegate']}, input already prepared.{_pace(benchmark)}",
                ),
            ]
        ),
        html.Row(
            [
                html.Distributions(
                    "Time of every run", "ms", [("float", samples[0]), ("int8", samples[1])],
                    f"{len(benchmark.cases[0].launches)} processes for each model, by turns. The line is the median.",
                ),
                _once(
                    benchmark, "Loading the model, once", "load_ns", "ms", milliseconds,
                    "Reading and checking the file, choosing and preparing the delegate.",
                ),
                _once(
                    benchmark, "Memory of the process at most", "peak_rss_bytes", "MB", size_text,
                    "Python and the interpreter are the most of it.",
                ),
            ]
        ),
        html.Section("What it reads", [html.Text(_gallery_text(result)), html.Gallery(_gallery(test, scores))]),
        html.Section("The proof", _proof(conversion)),
        html.Section("The plan", [
            html.Table(
                [(plan.spec.kind, "picked", plan.reason), *((item.kind, "not picked", item.reason) for item in plan.rejected)],
                ("delegate", "verdict", "why"), [True, *(None for _ in plan.rejected)],
            )
        ]),
        html.Section("The benchmark", [_measured(benchmark), html.Text(
            f"In an application that passes raw 8×8 digits, a run took {milliseconds(in_app_p50_ns)} (median of "
            f"{result.test_count}, enlarging included). Each of these runs is in latency.jsonl, each run of the "
            "benchmark in benchmark.json.", soft=True,
        )]),
        html.Section("This machine", [html.Table(_host_rows(host), ("fact", "value", "where it was read"))]),
    ]  # fmt: skip
    took = ", ".join(f"{name} {value:.1f} s" for name, value in result.seconds.items())
    return html.page(
        "edgekit demo: handwritten digits in int8",
        "A convolutional network was trained on 1200 real handwritten digits, converted to an int8 model, proven against "
        "the float model on digits that neither had seen, and run and measured on this machine.",
        parts,
        f"Made by edgekit {__version__}. It took: {took}. Digits: scikit-learn's copy of the UCI set Optical Recognition "
        "of Handwritten Digits.",
    )


def _once(
    benchmark: BenchmarkReport, title: str, key: str, unit: str, text: Callable[[float], str], caption: str
) -> html.Part:
    """Bars of a figure that each launch has once, in millions of its unit."""
    items = [
        Bar(result.case.model, value / 1e6, text(value), series=number)
        for number, result in enumerate(benchmark.cases)
        if (value := result.median(key)) is not None
    ]
    if not items:
        return html.Text(f"{title}: this system does not tell.", soft=True)
    return html.Bars(title, unit, items, f"{caption} Median over the processes.")


def _gallery_text(result: DemoResult) -> str:
    wrong = round((1 - result.int8_accuracy.value) * result.test_count)
    return f"Test digits as the int8 model reads them, with its score; the misread ones ({wrong} of {result.test_count}) come first."


def _gallery(test: tuple[Array, Array], scores: Array) -> list[html.Picture]:
    images, labels = test
    said = scores.argmax(axis=1)
    order = np.argsort(said == labels, kind="stable")[:_SHOWN]
    grey = (255 - resize(images[order], _SIDE, _SIDE)[..., 0] * (255 / 16)).clip(0, 255).astype(np.uint8)
    pictures = []
    for image, index in zip(grey, order, strict=True):
        wrong = bool(said[index] != labels[index])
        text = f"{said[index]} ({100 * scores[index].max():.0f} %)"
        pictures.append(html.Picture(grey_png(image), f"{text}\nis {labels[index]}" if wrong else text, wrong))
    return pictures


def _proof(conversion: Conversion) -> list[html.Part]:
    report = conversion.report
    words = {True: "passed", False: "failed", None: "noted"}
    checks = html.Table(
        [(check.name, words[check.passed], check.text) for check in report.checks],
        ("check", "verdict", "seen"), [check.passed for check in report.checks],
    )  # fmt: skip
    rows = []
    for name, figures in report.on.items():
        sqnr = figures.sqnr_db
        metric = figures.metric
        rows.append(
            (
                "test digits" if name == "verify" else name,
                str(figures.count),
                _share(figures.agreement) if figures.agreement else "–",
                f"{sqnr.value:.1f} dB ({sqnr.low:.1f}–{sqnr.high:.1f})",
                _share(metric.float_model) if metric else "no labels used",
                _share(metric.int8_model) if metric else "no labels used",
            )
        )
    titles = ("digits", "count", "agreement", "SQNR", "float accuracy", "int8 accuracy")
    findings = [html.Text(f"{finding.level}: {finding.text}", soft=True) for finding in conversion.findings]
    return [html.Table(rows, titles), checks, *findings]


def _measured(benchmark: BenchmarkReport) -> html.Part:
    from edgekit.report import html

    titles, rows = table(FIELDS, benchmark.cases)
    return html.Table(rows, titles)


def _host_rows(host: HostFacts) -> list[tuple[str, str, str]]:
    rows = []
    for name, fact in host.items():
        if fact is None:
            continue
        title, value = name.replace("_", " "), fact.value
        if name == "cpu_flags":
            title, value = "SIMD features", [flag for flag in value if flag.startswith(_SIMD)]
        if name.endswith("_bytes"):
            title, value = title.removesuffix(" bytes"), size_text(value)
        if name.endswith("_c"):
            title, value = title.removesuffix(" c"), f"{value:.0f} °C"
        rows.append((title, ", ".join(value) if isinstance(value, list | tuple) else str(value), fact.source))
    return rows


def _pace(benchmark: BenchmarkReport) -> str:
    """Which runs the figures are of, where something often slowed the processor."""
    if not any(case.slowed for case in benchmark.cases):
        return ""
    return " Something slowed the processor now and then; these are the runs at full pace."
