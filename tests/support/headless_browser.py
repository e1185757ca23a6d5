"""Chromium without a window, told over its debugging pipe what to open: for pages that must work where they are read.

The protocol is JSON, each message ended by a zero byte, on the browser's file descriptors 3 and 4 (Chromium's
``--remote-debugging-pipe``; Chrome DevTools Protocol).
"""

from __future__ import annotations

import base64
import fcntl
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_WAIT_S = 60.0
#: Puts two file descriptors where the browser looks for them, and becomes the browser.
_MOVE = "import os, sys; [os.dup2(int(sys.argv[k]), k + 2) for k in (1, 2)]; os.execv(sys.argv[3], sys.argv[3:])"


def browser_program() -> str | None:
    """Where Chromium is, or ``None``; ``EDGEKIT_CHROMIUM`` names another one."""
    return os.environ.get("EDGEKIT_CHROMIUM") or next((path for name in _NAMES if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class Seen:
    """What came of opening a page.

    Attributes:
        errors: what the console, the log and uncaught exceptions said.
        requests: every address that was asked for, the page's own left out.
        overflow: pixels by which the document is wider than the window; a telephone would zoom out by as much.
        cut: the beginnings of texts that reach beyond the window although nothing around them scrolls.
        png: how it looks.
    """

    errors: tuple[str, ...]
    requests: tuple[str, ...]
    overflow: int
    cut: tuple[str, ...]
    png: bytes


#: Texts outside boxes that scroll, of which a part lies beyond the window: the text, and not its element, which may be narrower.
_CUT = """(() => {
  const found = [], edge = document.documentElement.clientWidth + 1;
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let text = texts.nextNode(); text && found.length < 5; text = texts.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(text);
    const beyond = [...range.getClientRects()].some(box => box.width > 0 && (box.right > edge || box.left < -1));
    if (beyond && !text.parentElement.closest('.scroll')) found.push(text.textContent.slice(0, 60));
  }
  return found;
})()"""


class Browser:
    """A running browser.

    Args:
        to_browser: file descriptor for requests.
        from_browser: file descriptor for answers and events.
    """

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._numbers = itertools.count(1)
        self._buffer = b""
        self._events: list[dict[str, Any]] = []

    def look(self, page: Path, *, width: int = 1280, dark: bool = False, script: str | None = None) -> Seen:
        """Open a page.

        Args:
            page: the file.
            width: of the window, in CSS pixels.
            dark: whether the system asks for dark colours.
            script: JavaScript to run on it before it is looked at.
        """
        target = self._ask("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self._ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._ask(f"{domain}.enable", {}, session)
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        self._ask("Emulation.setDeviceMetricsOverride", metrics, session)
        colours = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._ask("Emulation.setEmulatedMedia", {"features": [colours]}, session)
        self._events.clear()
        address = page.resolve().as_uri()
        self._ask("Page.navigate", {"url": address}, session)
        self._wait("Page.loadEventFired")
        if script is not None:
            self._value(script, session)
        overflow = int(
            self._value("document.documentElement.scrollWidth - document.documentElement.clientWidth", session)
        )
        cut = tuple(self._value(_CUT, session))
        height = int(self._value("document.documentElement.scrollHeight", session))
        clip = {"x": 0, "y": 0, "width": width, "height": min(height, 16_000), "scale": 1}
        shot = self._ask("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}, session)
        self._ask("Target.closeTarget", {"targetId": target})
        return Seen(
            tuple(self._errors()), tuple(self._requests(address)), overflow, cut, base64.b64decode(shot["data"])
        )

    def _errors(self) -> Iterator[str]:
        for event in self._events:
            parameters = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                yield str(parameters["exceptionDetails"].get("text"))
            elif event["method"] == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
                yield str([item.get("value") for item in parameters["args"]])
            elif event["method"] == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
                yield str(parameters["entry"]["text"])

    def _requests(self, own: str) -> Iterator[str]:
        for event in self._events:
            if event["method"] == "Network.requestWillBeSent":
                address = str(event["params"]["request"]["url"])
                if address.partition("#")[0] != own and not address.startswith("data:"):
                    yield address

    def _value(self, script: str, session: str) -> Any:
        found = self._ask("Runtime.evaluate", {"expression": script, "returnByValue": True}, session)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def _ask(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        number = next(self._numbers)
        request: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if session is not None:
            request["sessionId"] = session
        os.write(self._to, json.dumps(request).encode() + b"\0")
        while True:
            message = self._next()
            if message.get("id") == number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            if "method" in message:
                self._events.append(message)

    def _wait(self, method: str) -> None:
        while not any(event["method"] == method for event in self._events):
            message = self._next()
            if "method" in message:
                self._events.append(message)

    def _next(self) -> dict[str, Any]:
        until = time.monotonic() + _WAIT_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the browser does not answer"
            data = os.read(self._from, 1 << 20)
            assert data, "the browser ended"
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message


@contextmanager
def browser(program: str, profile: Path) -> Iterator[Browser]:
    """Start the browser, and end it.

    Args:
        program: what ``browser_program`` gives.
        profile: an empty folder for its files.
    """
    requests, answers = os.pipe(), os.pipe()
    # Where 3 and 4 are not in the way.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (requests[0], answers[1])]
    command = [
        sys.executable, "-c", _MOVE, *map(str, ends), program, "--headless", "--no-sandbox",
        "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
        "--remote-debugging-pipe", f"--user-data-dir={profile}", "about:blank",
    ]  # fmt: skip
    child = subprocess.Popen(command, pass_fds=ends, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for end in (*ends, requests[0], answers[1]):
        os.close(end)
    try:
        yield Browser(requests[1], answers[0])
    finally:
        child.terminate()
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        os.close(requests[1])
        os.close(answers[0])
