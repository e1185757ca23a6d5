"""Does ``edgekit bench compare --fail-over`` find a slower engine, and let the same one pass?

The device part of edgekit is copied twice. One copy stays as it is; in the other the interpreter's ``Invoke`` is followed by a busy
wait of a share of its own time. Each round measures the original, then the unchanged copy, then the slowed one, each as a
benchmark of its own, and compares both with the original. With ``--spin`` both processors are kept busy meanwhile: the verdict
must then never be VALID.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import edgekit
import edgekit_profiles
from edgekit.bench.compare import compare
from edgekit.bench.results import BenchmarkReport

_SLOWED = '''

class _Slowed:
    """The native interpreter, whose runs take longer by a share of their own time."""

    def __init__(self, native):
        self._it = native

    def __getattr__(self, name):
        return getattr(self._it, name)

    def tensor(self, base, index):
        return self._it.tensor(self._it, index)

    def Invoke(self, *arguments):
        from time import perf_counter_ns as clock

        start = clock()
        self._it.Invoke(*arguments)
        end = clock() + int({share} * (clock() - start))
        while clock() < end:
            pass


_plain_open = InterpreterEngine._open


def _slowed_open(self):
    _plain_open(self)
    self._native = _Slowed(self._native)


InterpreterEngine._open = _slowed_open
'''


def copied(folder: Path, share: float | None) -> Path:
    """Put a copy of what a benchmark needs into a folder, slowed where a share is given."""
    for package in (edgekit, edgekit_profiles):
        source = Path(package.__file__ or "").parent
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__"))
    if share is not None:
        with (folder / "edgekit/runtime/engines/interpreter.py").open("a") as file:
            file.write(_SLOWED.format(share=share))
    return folder


def measured(home: Path, model: Path, output: Path, options: list[str]) -> BenchmarkReport:
    """Benchmark with the edgekit of a folder, in processes of its own."""
    command = [sys.executable, "-m", "edgekit", "bench", str(model), "-o", str(output), "--overwrite", *options]
    environment = {**os.environ, "PYTHONPATH": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the benchmark of {home} failed: {done.stderr[-2000:]}")
    return BenchmarkReport.read(output)


def _text(ratio: float | None) -> str:
    return "not compared" if ratio is None else f"{ratio:.3f}"


def main() -> None:
    """Measure, compare, count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--share", type=float, default=0.10, help="how much longer the slowed engine takes")
    parser.add_argument("--fail-over", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--delegate", default="xnnpack")
    parser.add_argument("--spin", action="store_true", help="keep every processor busy meanwhile")
    parser.add_argument("--json", type=Path, help="write all ratios here")
    arguments, rest = parser.parse_known_args()  # the rest goes to `edgekit bench`, such as --launches 5
    options = ["--threads", str(arguments.threads), "--delegate", arguments.delegate, *rest]
    spinners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"])
        for _ in range((os.cpu_count() or 1) if arguments.spin else 0)
    ]
    rows: list[dict[str, Any]] = []
    try:
        with tempfile.TemporaryDirectory(prefix="edgekit-gate-") as name:
            folder = Path(name)
            homes = {
                "original": copied(folder / "original", None),
                "unchanged": copied(folder / "unchanged", None),
                "slowed": copied(folder / "slowed", arguments.share),
            }
            model = arguments.model.resolve()
            for turn in range(arguments.rounds):
                reports = {key: measured(home, model, folder / f"{key}.json", options) for key, home in homes.items()}
                levels = [report.verdict.level for report in reports.values()]
                row: dict[str, Any] = {"levels": levels}
                for key in ("unchanged", "slowed"):
                    found = compare([reports["original"], reports[key]], fail_over=arguments.fail_over)
                    change = found.against[0].changes[0]
                    row[key] = {
                        "ratio": change.ratio,
                        "low": change.low,
                        "high": change.high,
                        "p": change.p,
                        "passed": found.passed,
                    }
                rows.append(row)
                texts = [
                    f"{key} {_text(row[key]['ratio'])} {'passed' if row[key]['passed'] else 'found'}"
                    for key in ("unchanged", "slowed")
                ]
                print(f"{turn + 1}: {', '.join(texts)}; {', '.join(levels)}", file=sys.stderr)
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()
    passed = sum(row["unchanged"]["passed"] for row in rows)
    found_slow = sum(not row["slowed"]["passed"] for row in rows)
    valid = sum(level == "VALID" for row in rows for level in row["levels"])
    print("| engine | benchmarks | gate | expected |\n|---|---|---|---|")
    print(f"| unchanged copy | {len(rows)} | {passed} passed | at least {-(-19 * len(rows) // 20)} |")
    print(f"| {100 * arguments.share:g} % slower | {len(rows)} | {found_slow} found | all |")
    print(
        f"\nVALID: {valid} of {3 * len(rows)} benchmarks"
        + (", none expected with busy processors" if arguments.spin else "")
    )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rows))
    if arguments.spin:
        sys.exit(valid > 0)
    sys.exit(passed < -(-19 * len(rows) // 20) or found_slow < len(rows))


if __name__ == "__main__":
    main()
