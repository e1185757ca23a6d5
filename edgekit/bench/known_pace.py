"""The full pace of earlier benchmarks: it tells one that was slowed from its beginning to its end.

Such a benchmark sees nothing of it by itself, as its fastest pieces of work (``edgekit.bench.pace``) are slow ones too. What the work took
at full pace is kept in ``bench-pace.json`` of the cache folder for a day, for each case and state of the machine by themselves: what runs
before the work decides how warm the caches and how high the clock is that it finds.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.bench.launch import Case
from edgekit.bench.pace import SLOWER
from edgekit.cache import cache_folder
from edgekit.digest import sha256_hex
from edgekit.errors import EdgekitError
from edgekit.files import write_whole

#: So long an earlier benchmark counts, and so many cases are kept.
KEPT_S = 86_400.0
_MOST = 500
#: What a case's pace depends on, and of the machine what can change it for good.
_CASE = ("sha256", "delegate", "device", "threads", "engine", "batch")
_HOST = ("machine", "cpu_model", "logical_cores", "cpu_governor", "cgroup_cores")
_NAME = "bench-pace.json"


class KnownPace:
    """What earlier benchmarks on this machine found.

    Args:
        host: the machine's facts, as ``read_host().to_json()`` has them.
    """

    def __init__(self, host: Mapping[str, Any]) -> None:
        self._host = [str(host.get(key)) for key in _HOST]
        self._kept = _fresh()

    def of(self, case: Case) -> float | None:
        """What the work took at full pace beside this case.

        Args:
            case: the case.

        Returns:
            Nanoseconds; ``None`` where no benchmark of the last day had it.
        """
        found = self._kept.get(self._key(case))
        return None if found is None else found[0]

    def keep(self, found: Mapping[Case, float]) -> None:
        """Note what a benchmark found. Nothing is kept where there is no folder for it.

        Args:
            found: nanoseconds at full pace, for each case.
        """
        folder = cache_folder()
        if folder is None or not found:
            return
        now, kept = time.time(), _fresh()  # again: other benchmarks may have ended meanwhile
        for case, full_ns in found.items():
            known_ns, at = kept.get(key := self._key(case), (full_ns, now))
            # One that was slowed throughout does not prolong what was known before.
            kept[key] = (min(known_ns, full_ns), now if full_ns <= SLOWER * known_ns else at)
        newest = self._kept = dict(sorted(kept.items(), key=lambda item: item[1][1])[-_MOST:])
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            write_whole(Path(folder) / _NAME, json.dumps(newest).encode(), overwrite=True)
        except (OSError, EdgekitError):  # a full or read-only disk: the next benchmark knows less
            pass

    def _key(self, case: Case) -> str:
        parts = [*self._host, sys.version, *(str(getattr(case, key)) for key in _CASE)]
        return sha256_hex("\n".join(parts).encode())[:32]


def _fresh() -> dict[str, tuple[float, float]]:
    """By key: nanoseconds, and when they were last seen; nothing of a file that is no such one."""
    folder = cache_folder()
    if folder is None:
        return {}
    try:
        found = json.loads((Path(folder) / _NAME).read_bytes())
        kept = {str(key): (float(full_ns), float(at)) for key, (full_ns, at) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}
    now = time.time()
    return {
        key: (full_ns, at)
        for key, (full_ns, at) in kept.items()
        if 0 < full_ns < math.inf and now - KEPT_S < at <= now + 60
    }
