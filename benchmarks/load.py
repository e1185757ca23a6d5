"""What edgekit costs a device beyond the bare interpreter: loading and one run, whole processes, interleaved.

Three kinds of process do the same (import, load, one run on zeros) with LiteRT's Interpreter, with ``edgekit.load`` and a named
delegate, and with ``edgekit.load`` choosing through the device profile. Time is what the process measures from its first line
(numpy imported inside it) to the result; memory is its peak resident set, and what is its alone at the end (on Linux): pages of the
model's file that are mapped are not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

START = "import time; start = time.perf_counter(); import sys, numpy as np; path = sys.argv[1]\n"
KINDS = {
    "bare interpreter": """
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(path, num_threads=1)
model.allocate_tensors()
item = model.get_input_details()[0]
model.set_tensor(item["index"], np.zeros(item["shape"], item["dtype"]))
model.invoke()
model.get_tensor(model.get_output_details()[0]["index"])
""",
    "edgekit, delegate named": """
import edgekit
model = edgekit.load(path, delegate="xnnpack")
model.run(np.zeros([abs(size) for size in model.inputs[0].shape], np.float32))
""",
    "edgekit, delegate chosen": """
import edgekit
model = edgekit.load(path)
model.run(np.zeros([abs(size) for size in model.inputs[0].shape], np.float32))
""",
}
END = """
end = time.perf_counter()
import json, os, resource
private = 0
if os.path.exists("/proc/self/smaps_rollup"):
    with open("/proc/self/smaps_rollup") as lines:
        private = sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))
print(json.dumps([end - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, private]))
"""


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    # Without compiled bytecode the first import compiles, which a device does once in its life.
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    memory: dict[str, list[float]] = {kind: [] for kind in KINDS}
    private: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(arguments.rounds + 1):
        for kind, code in KINDS.items():
            command = [sys.executable, "-c", START + code + END, str(arguments.model)]
            done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
            seconds, kibibytes, own = json.loads(done.stdout)
            if number:  # the first round fills the file cache and compiles
                times[kind].append(1000 * seconds)
                memory[kind].append(kibibytes / 1024)
                private[kind].append(own / 1024)
    base = "bare interpreter"
    print(f"{arguments.model.name}, median of {arguments.rounds} processes each\n")
    print(
        "| process | load and one run | more | peak memory | more | private memory | more |\n|---|---|---|---|---|---|---|"
    )
    for kind in KINDS:
        extra = statistics.median(a - b for a, b in zip(times[kind], times[base], strict=True))
        cells = [f"{statistics.median(times[kind]):.0f} ms", f"{extra:+.0f} ms"]
        for found in (memory, private):
            value = statistics.median(found[kind])
            cells += [f"{value:.1f} MiB", f"{value - statistics.median(found[base]):+.1f} MiB"]
        print(f"| {kind} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
