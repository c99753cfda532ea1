"""A headless Chromium that opens a page and tells what it asked for, what it complained of, and what it shows.

It is spoken to by the DevTools protocol through a pipe (https://chromedevtools.github.io/devtools-protocol), so that no port
and no driver is needed.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

from patience import HUNG

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)

DESKTOP, PHONE = (1280, 900), (390, 844)


def chromium() -> str:
    """The browser's path; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser here: none of {', '.join(NAMES)} is installed")
    return found


@dataclass
class Opened:
    """What became of a page.

    Attributes:
        requests: every URL that it asked for beside itself.
        complaints: errors and warnings of its console, and exceptions.
    """

    browser: Browser
    session: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.browser.call(
            "Runtime.evaluate", {"expression": expression, "returnByValue": True, "awaitPromise": True}, self.session
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as a PNG."""
        answer = self.browser.call("Page.captureScreenshot", {"captureBeyondViewport": True}, self.session)
        path.write_bytes(base64.b64decode(answer["data"]))


class Browser:
    """A browser, ended with the `with` block."""

    def __init__(self) -> None:
        program = chromium()  # first: where there is none, nothing may be left behind
        self.folder = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        command, self._reads = os.pipe(), os.pipe()
        self._writes = command[1]
        # The protocol wants file descriptors 3 and 4, which a shell puts in their places.
        line = f'exec "$0" "$@" 3<&{command[0]} 4>&{self._reads[1]}'
        self.process = subprocess.Popen(
            ["bash", "-c", line, program, *FLAGS, f"--user-data-dir={self.folder.name}", "about:blank"],
            pass_fds=(command[0], self._reads[1]),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command[0])
        os.close(self._reads[1])
        self.number = 0
        self.rest = b""
        self.pages: dict[str, Opened] = {}

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._writes)
        os.close(self._reads[0])
        self.folder.cleanup()

    def open(self, path: Path, size: tuple[int, int] = DESKTOP, dark: bool = False) -> Opened:
        """Open a file in a new tab of a size, and wait until it is drawn."""
        target = self.call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        page = self.pages[session] = Opened(self, session)
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable", {}, session)
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
        self.call("Emulation.setDeviceMetricsOverride", metrics, session)
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", {"features": scheme}, session)
        self.call("Page.navigate", {"url": path.resolve().as_uri()}, session)
        deadline = time.monotonic() + HUNG
        while page.evaluate("document.readyState") != "complete" or page.evaluate("location.protocol") == "about:":
            assert time.monotonic() < deadline, "the page does not load"
            time.sleep(0.02)
        # Pictures are drawn in the frames after the first layout.
        page.evaluate("new Promise(done => setTimeout(done, 300))")
        page.requests = [url for url in page.requests if url != path.resolve().as_uri()]
        return page

    def call(self, method: str, parameters: dict[str, Any], session: str = "") -> dict[str, Any]:
        """A command's result; events that come before it are noted."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._writes, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self.number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])
            self._note(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self._reads[0]], [], [], 60)
            part = os.read(self._reads[0], 1 << 20) if ready else b""
            assert part, "the browser does not answer"
            self.rest += part
        message, _, self.rest = self.rest.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, event: dict[str, Any]) -> None:
        page, told = self.pages.get(event.get("sessionId", "")), event.get("params", {})
        if page is None:
            return
        if event["method"] == "Network.requestWillBeSent":
            page.requests.append(told["request"]["url"])
        elif event["method"] == "Runtime.exceptionThrown":
            page.complaints.append(json.dumps(told["exceptionDetails"]))
        elif event["method"] == "Log.entryAdded":
            page.complaints.append(told["entry"]["text"])
        elif event["method"] == "Runtime.consoleAPICalled":
            page.complaints.append(f"console.{told['type']}: {json.dumps(told['args'])}")
