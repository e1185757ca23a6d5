"""``edgekit.digest``: the same digits as hashlib's, whoever computes them."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from edgekit.digest import sha256_hex, sha256_meanwhile

SIZES = [0, 1, 1000, 2 << 20, (2 << 20) + 1, 5_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_the_standard_s_digits(size: int) -> None:
    """Of small blocks and of large ones, at once and in a thread."""
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    expected = hashlib.sha256(data).hexdigest()
    assert expected == sha256_hex(data)
    assert expected == sha256_meanwhile(memoryview(data))()


def test_without_openssl() -> None:
    """In a process that has not loaded it, small blocks do not load it, and large ones are hashed by it."""
    code = (
        "import sys; from edgekit.digest import sha256_hex, sha256_meanwhile\n"
        "small = sha256_hex(b'x' * 1000), sha256_meanwhile(memoryview(b'x' * 1000))()\n"
        "print(*small, '_hashlib' in sys.modules)\n"
        "print(sha256_meanwhile(memoryview(b'x' * 3_000_000))(), '_hashlib' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    small, large = hashlib.sha256(b"x" * 1000).hexdigest(), hashlib.sha256(b"x" * 3_000_000).hexdigest()
    assert [f"{small} {small} False", f"{large} True"] == done.stdout.splitlines()


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process at its limit of threads hashes all the same."""

    def refuse(*_: object) -> int:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("edgekit.digest.start_new_thread", refuse)
    data = b"y" * 3_000_000
    assert hashlib.sha256(data).hexdigest() == sha256_meanwhile(memoryview(data))()
