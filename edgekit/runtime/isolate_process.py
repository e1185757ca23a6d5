"""The process of an isolated model as the program sees it: started, asked with a deadline, listened to, ended.

Everything that comes from it is bounded and tested before it is believed; nothing here waits without an end.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from edgekit.errors import EngineError, OptionError
from edgekit.runtime import frames

if TYPE_CHECKING:
    import subprocess

#: Starting Python and importing the interpreter's package takes seconds on a small device.
START_SECONDS = 60.0
#: So many bytes of what the process printed are kept for the message.
_STDERR_BYTES = 4096
#: What Linux lets any user give a pipe (/proc/sys/fs/pipe-max-size).
_PIPE_BYTES = 1 << 20
_SET_PIPE_SIZE = 1031  # fcntl.F_SETPIPE_SZ, which Python has since 3.10 where its C library does
#: A text from the other side, cut to this.
_TEXT = 4000
_START = "import sys; sys.path[:] = sys.argv[1:-2]; from edgekit.runtime.isolate_child import main; main()"
_clock = time.perf_counter_ns


class Lost(Exception):
    """The process is gone, or its time is up."""

    def __init__(self, timed_out: bool) -> None:
        super().__init__("out of time" if timed_out else "gone")
        self.timed_out = timed_out


class ChildProcess:
    """The process and its pipes. What goes wrong with it is ``Lost``, or a ``BadFrame``.

    Args:
        name: the model, for messages.
        engine: the engine whose package it imports at once; ``None`` for the first that is installed.

        passed: descriptors that it gets under their own numbers.

    Attributes:
        process: the process.
        sent_ns: when the last request was written, on the clock of ``time.perf_counter_ns``.
        came_ns: when the first byte of its answer came.

    Raises:
        EngineError: it cannot be started.
        OptionError: this system has no processes of this kind.
    """

    def __init__(self, name: str, engine: str | None, passed: tuple[int, ...] = ()) -> None:
        import subprocess
        import weakref

        if not hasattr(os, "register_at_fork"):
            raise OptionError("isolate=True needs a POSIX system: pipes that can be waited for, and signals.")
        if not sys.executable:
            raise EngineError(f"{name} cannot be isolated: this Python does not know its own program (sys.executable).")
        # Isolated from the environment, with this process's own search path: the same edgekit and the same packages.
        paths = [os.path.abspath(path) for path in sys.path]
        command = [sys.executable, *(["-B"] if sys.dont_write_bytecode else []), "-I", "-c", _START, *paths]
        command += [engine or "", str(START_SECONDS)]
        try:
            self.process: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=passed,
                start_new_session=True,  # Ctrl-C is for the program
            )
        except OSError as error:
            raise EngineError(f"{name} cannot be isolated: {sys.executable} cannot be started ({error}).") from error
        process = self.process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        self._to, self._from, self._err = process.stdin.fileno(), process.stdout.fileno(), process.stderr.fileno()
        for descriptor in (self._to, self._from, self._err):
            os.set_blocking(descriptor, False)
        _widen(self._to, self._from)
        self._said = b""
        self.sent_ns = self.came_ns = 0
        self._final = weakref.finalize(self, _put_down, process, os.getpid())

    def exchange(self, parts: list[memoryview], seconds: float, most: int) -> frames.Frame:
        """Write a frame and read the answer.

        Args:
            parts: the frame; empty to wait for what it says by itself.
            seconds: for all of it.
            most: bytes of arrays that the answer may have.
        """
        import select

        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._from, select.POLLIN)
        poll.register(self._err, select.POLLIN)
        waiting = list(parts)
        if waiting:
            poll.register(self._to, select.POLLOUT)
        self.came_ns = 0
        answer = _Answer(most)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Lost(timed_out=True)
            for descriptor, event in poll.poll(left * 1000):
                if descriptor == self._to:
                    waiting = self._write(waiting, event & ~select.POLLOUT != 0)
                    if not waiting:
                        poll.unregister(self._to)
                        self.sent_ns = _clock()
                elif descriptor == self._err:
                    if not self._listen():
                        poll.unregister(self._err)
                else:
                    self.came_ns = self.came_ns or _clock()
                    if answer.read(self._from):
                        if waiting:
                            raise frames.BadFrame("it answers before it was asked")
                        return answer.frame()

    def _write(self, waiting: list[memoryview], broken: bool) -> list[memoryview]:
        try:
            count = os.writev(self._to, waiting[:16])
        except BlockingIOError:
            return waiting
        except OSError as error:  # EPIPE: it is gone
            raise Lost(timed_out=False) from error
        if broken and count == 0:
            raise Lost(timed_out=False)
        while waiting and count >= len(waiting[0]):
            count -= len(waiting.pop(0))
        if count:
            waiting[0] = waiting[0][count:]
        return waiting

    def _listen(self) -> bool:
        """Keep the end of what the process prints; whether there may be more."""
        try:
            said = os.read(self._err, 1 << 16)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self._said = (self._said + said)[-_STDERR_BYTES:]
        return bool(said)

    def last_words(self) -> str:
        """The end of what the process printed, in one line."""
        return one_line(self._said[-600:].decode(errors="replace"))

    def kill(self) -> None:
        """End the process, wait for it, and close the pipes."""
        try:
            # When it is gone already its own signal is what counts; a moment may pass between the pipe's end and the process's.
            self.process.wait(0.2 if self._closed_its_end() else 0)
        except Exception:  # still there
            self.process.kill()
        self._gather()

    def _closed_its_end(self) -> bool:
        import select

        poll = select.poll()
        poll.register(self._from, select.POLLIN)
        return any(event & select.POLLHUP for _, event in poll.poll(0))

    def close(self) -> None:
        """Let the process end by itself, for a moment; then as ``kill``."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
            self.process.wait(1)
        except Exception:  # a broken pipe, or it does not end
            self.process.kill()
        self._gather()

    def _gather(self) -> None:
        self._final.detach()
        self.process.wait()
        while self._listen() and self._said_more():
            pass
        _close(self.process)

    def _said_more(self) -> bool:
        import select

        poll = select.poll()
        poll.register(self._err, select.POLLIN)
        return any(event & select.POLLIN for _, event in poll.poll(0))


class _Answer:
    """A frame that comes in pieces, from a side that may send anything."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._head = bytearray(frames.HEAD.size)
        self._part = memoryview(self._head)
        self._known: tuple[int, int, int, int] | None = None
        self._rest = bytearray()

    def read(self, descriptor: int) -> bool:
        """Take what has come; whether it is all of it."""
        while self._part:
            try:
                count = os.readv(descriptor, [self._part])
            except BlockingIOError:
                return False
            if count == 0:
                raise Lost(timed_out=False)
            self._part = self._part[count:]
            if not self._part and self._known is None:
                self._known = frames.lengths(self._head, self._most)
                self._rest = bytearray(self._known[2] + self._known[3])
                self._part = memoryview(self._rest)
        return True

    def frame(self) -> frames.Frame:
        """The whole frame."""
        assert self._known is not None
        kind, number, text, _ = self._known
        view = memoryview(self._rest)
        return frames.frame_of(kind, number, view[:text], view[text:])


def _widen(*pipes: int) -> None:
    """Let pipes hold an image or so at once: each time that one is full both processes change places."""
    with contextlib.suppress(ImportError, AttributeError, OSError):  # not Linux, or the user has no more to spend
        import fcntl

        for pipe in pipes:
            fcntl.fcntl(pipe, _SET_PIPE_SIZE, _PIPE_BYTES)


def _put_down(process: subprocess.Popen[bytes], owner: int) -> None:
    """What is left of an ``Isolated`` that nobody closed; not in a fork of its owner."""
    if os.getpid() == owner:
        process.kill()
        process.wait()
        _close(process)


def _close(process: subprocess.Popen[bytes]) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        assert pipe is not None
        with contextlib.suppress(OSError):  # a broken pipe
            pipe.close()


def one_line(value: Any) -> str:
    """A text from the other side: one line, of bounded length, nothing that a terminal obeys."""
    line = " ".join(str(value)[: 4 * _TEXT].split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:_TEXT]
