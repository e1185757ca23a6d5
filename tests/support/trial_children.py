"""What the tests of ``edgekit.runtime.trial`` run in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from edgekit.runtime.trial import enter


def main() -> None:
    """Do what ``about["what"]`` says."""
    about, body, stage, result = enter()
    stage("began")
    what = about["what"]
    if what == "answer":
        print("printed, and no answer")
        result({"length": len(body), "seen": about})
    elif what == "dies":
        os.kill(os.getpid(), signal.Signals[about["signal"]])
    elif what == "exits":
        print("last words", file=sys.stderr)
        sys.exit(7)
    elif what == "hangs":
        time.sleep(60)
    elif what == "answers and hangs":
        result({"done": True})
        time.sleep(60)
    elif what == "leaves a helper":
        helper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        result({"helper": helper.pid})
    elif what == "floods":
        for _ in range(100):
            os.write(2, b"x" * 65536)
        os.write(2, b"the end")
        result({})
