"""What runs on the device at the other end of the connection: files in, a job started beside it, progress and results out.

The modules of this package are sent over as one program and run by the Python there: standard library only, nothing else of edgekit. Requests are
JSON objects, one on a line, with ``bytes`` raw bytes behind those that say so; answers are JSON objects, one on a line, the last one of a request with the
key ``answer``.

Everything is in one folder, ``edgekit/remote`` in the user's cache folder, which only that user may enter::

    packages/NAME/        a wheel, unpacked; the name ends with its hash
    incoming/KEY/SHA256   files on their way, ``.part`` until they are whole
    jobs/KEY/             a benchmark: its request, models and samples, progress, log, outcome
    cache/                what edgekit there may forget
    lock                  held by the process of the running job, and by nothing else

The job is a process in a session of its own and lives on when the connection ends. The lock is the kernel's (``flock``): it ends with
the process, however that ends, so that there is no stale one; what is written in the file only says who holds it.
"""

from __future__ import annotations

from pathlib import Path

#: In the order in which they import each other.
_MODULES = ("facts", "places", "jobs", "serve")
_START = """
import sys, types
for name, source in {sources!r}:
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
sys.modules[name].main()
"""


def program() -> bytes:
    """The modules of this package as one program that needs no file."""
    folder = Path(__file__).parent
    sources = [(f"{__name__}.{name}", (folder / f"{name}.py").read_text(encoding="utf-8")) for name in _MODULES]
    return _START.format(sources=sources).encode()
