"""A headless Chromium that tests look at pages with, spoken to over two pipes in its DevTools protocol."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

INSTALL = "needs Chromium: apt-get install --no-install-recommends chromium"
AXE = "needs axe-core: npm pack axe-core, and LMSEARCH_AXE=<path of its axe.min.js>"
NAMES = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """One page of a headless Chromium; `events` are all that it has told since the last page was opened."""

    def __init__(self, write: int, read: int) -> None:
        self.write, self.read = write, read
        self.left, self.number, self.session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method and return its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params} | ({"sessionId": self.session} if self.session else {})
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self.number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        """Return the next message."""
        while b"\0" not in self.left:
            data = os.read(self.read, 1 << 20)
            assert data, "Chromium has ended"
            self.left += data
        message, _, self.left = self.left.partition(b"\0")
        return json.loads(message)

    def open(self, page: Path, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Show a file at a width in pixels, in light or dark colours, until it is loaded."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.events.clear()
        self.call("Page.navigate", url=page.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def evaluate(self, code: str) -> Any:
        """Return what JavaScript gives, of a promise what it becomes."""
        found = self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def screenshot(self) -> bytes:
        """Return the whole page as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    @property
    def requests(self) -> list[str]:
        """The addresses that the page asked for, itself among them."""
        sent = [event["params"] for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent]

    @property
    def complaints(self) -> list[Any]:
        """What stands in the console: errors, warnings, refused resources."""
        names = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [event["params"] for event in self.events if event.get("method") in names]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Give a browser, or skip the test where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(INSTALL)
    to_it, write = os.pipe()
    read, from_it = os.pipe()
    words = [
        found,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-pipe",
        "--hide-scrollbars",
        "--no-first-run",
    ]

    def as_3_and_4() -> None:
        """Put the pipes where Chromium looks for them."""
        low, high = os.dup(to_it), os.dup(from_it)
        os.dup2(low, 3)
        os.dup2(high, 4)

    process = subprocess.Popen(
        words, preexec_fn=as_3_and_4, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # fmt: skip
    os.close(to_it)
    os.close(from_it)
    try:
        yield Browser(write, read)
    finally:
        process.kill()
        process.wait()
        os.close(write)
        os.close(read)


def axe() -> str:
    """Return the source of axe-core, or skip the test where it is not there."""
    path = Path(os.environ.get("LMSEARCH_AXE", ""))
    if not path.is_file():
        pytest.skip(AXE)
    return path.read_text(encoding="utf-8")
