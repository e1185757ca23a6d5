"""Programs in processes of their own, on the edgekit that is installed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

#: With ``-c`` and ``-m`` Python imports from the working folder first. The checkout is not what is tested.
ELSEWHERE = "/"
#: Far above what any of them takes: what hangs must fail.
LIMIT_SECONDS = 300


def run_python(*arguments: object, text: bool = True, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run this Python with these arguments, and catch what it prints; ``options`` are those of ``subprocess.run``."""
    command = [sys.executable, *(str(argument) for argument in arguments)]
    return subprocess.run(
        command, **{"cwd": ELSEWHERE, "capture_output": True, "text": text, "timeout": LIMIT_SECONDS, **options}
    )


def run_shell(command: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell, and catch what it prints."""
    return subprocess.run(command, shell=True, cwd=ELSEWHERE, capture_output=True, text=True, timeout=LIMIT_SECONDS)
