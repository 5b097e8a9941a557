"""A headless Chromium driven over its debugging pipe: open a page, ask it, look at it, hear its complaints.

The DevTools protocol on two file descriptors, messages of JSON ended by a zero byte; nothing to install.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
)


def executable() -> str | None:
    """Chromium on PATH, if there is one."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page in one browser. `console` and `requests` fill while it is asked things."""

    def __init__(self, profile: Path, width: int = 1280, height: int = 900) -> None:
        found = executable()
        assert found is not None
        self.console: list[str] = []
        self.requests: list[str] = []
        self._number = 0
        self._rest = b""
        to_browser, from_us = os.pipe()
        from_browser, to_us = os.pipe()

        def fds() -> None:
            # the browser reads on 3 and writes on 4
            os.dup2(to_browser, 1000)
            os.dup2(to_us, 1001)
            os.dup2(1000, 3)
            os.dup2(1001, 4)

        command = [
            found,
            *FLAGS,
            f"--user-data-dir={profile}",
            f"--window-size={width},{height}",
            "about:blank",
        ]
        self._process = subprocess.Popen(
            command, preexec_fn=fds, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_browser)
        os.close(to_us)
        self._out, self._in = from_us, from_browser
        target = next(t for t in self._call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        attached = self._call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.look(width, height)

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._out)
        os.close(self._in)

    def look(self, width: int, height: int, dark: bool = False, ratio: float = 1) -> None:
        """A window of that size, in the light or the dark scheme."""
        size = {"width": width, "height": height, "deviceScaleFactor": ratio, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, url: str) -> None:
        """Go there; the page may still be drawing afterwards."""
        self.call("Page.navigate", url=url)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise AssertionError(json.dumps(answer["exceptionDetails"])[:2000])
        return answer["result"].get("value")

    def until(self, expression: str, seconds: float = 60) -> None:
        """Wait until the expression is true in the page."""
        end, said = time.monotonic() + seconds, ""
        while time.monotonic() < end:
            try:
                if self.ask(f"Boolean({expression})"):
                    return
            except AssertionError as error:  # what is asked for is not there yet
                said = str(error)[:500]
            time.sleep(0.02)
        raise AssertionError(f"not within {seconds} s: {expression}; {said}; console: {self.console}")

    def screenshot(self, path: Path, whole: bool = False) -> None:
        """A picture of the window, or of the whole page."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(shot["data"]))

    def call(self, method: str, **parameters: Any) -> Any:
        """One command of the DevTools protocol to the page."""
        return self._call(method, self._session, **parameters)

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> Any:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        return self._until(lambda heard: heard.get("id") == number)

    def _until(self, wanted: Callable[[dict[str, Any]], bool], seconds: float = 60) -> Any:
        end = time.monotonic() + seconds
        while True:
            heard = self._receive(end)
            if wanted(heard):
                assert "error" not in heard, heard["error"]
                return heard["result"]
            self._event(heard)

    def _receive(self, end: float) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready = select.select([self._in], [], [], max(0.0, end - time.monotonic()))[0]
            data = os.read(self._in, 1 << 20) if ready else b""
            assert data, "the browser went silent"
            self._rest += data
        message, _, self._rest = self._rest.partition(b"\0")
        heard: dict[str, Any] = json.loads(message)
        return heard

    def _event(self, heard: dict[str, Any]) -> None:
        method, about = heard.get("method"), heard.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(about["request"]["url"])
        elif method == "Runtime.consoleAPICalled":
            self.console.append(" ".join(str(a.get("value", a.get("description"))) for a in about["args"]))
        elif method == "Runtime.exceptionThrown":
            self.console.append(
                str(about["exceptionDetails"].get("exception", about["exceptionDetails"]))[:2000]
            )
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("warning", "error"):
            self.console.append(f"{about['entry']['text']} {about['entry'].get('url', '')}")
