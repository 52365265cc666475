"""A headless Chromium without a network, driven over its DevTools pipe: what a page asks for, says and throws."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

DRAWING_S = 0.05
# The package imports Playwright, which is not installed; its copy of axe is found without importing it.
AXE = Path(find_spec("axe_playwright_python").submodule_search_locations[0], "axe.min.js")  # type: ignore[union-attr,index]


def find_chromium() -> str | None:
    """Debian's chromium, or whichever is on the PATH."""
    return "/usr/bin/chromium" if Path("/usr/bin/chromium").exists() else shutil.which("chromium")


@dataclass
class Log:
    """Requests made, requests that failed, and errors (console, exceptions, policy violations)."""

    requests: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class Browser:
    """One page; use as a context manager."""

    def __init__(self, executable: str, profile: Path) -> None:
        self.log, self._next, self._buffer = Log(), 0, b""
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
                 "--disable-component-update", "--disable-sync", "--hide-scrollbars", f"--user-data-dir={profile}",
                 "--enable-unsafe-swiftshader", "--proxy-server=127.0.0.1:9", "--remote-debugging-pipe", "about:blank"]  # fmt: skip

        def place_pipes() -> None:
            os.dup2(to_browser, 13)
            os.dup2(from_browser, 14)
            os.dup2(13, 3)
            os.dup2(14, 4)

        self._process = subprocess.Popen(
            [executable, *flags], preexec_fn=place_pipes, close_fds=False, start_new_session=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session: str | None = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *exception: object) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def open(self, page: Path, width: int = 1000, height: int = 900, dark: bool = False) -> None:
        """Show a local file, as on a phone where it is narrow, and wait until it has loaded."""
        phone = width < 500
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Page.navigate", url=page.as_uri())
        self.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{expression}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 60.0) -> None:
        """Until the expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(expression):
            if time.monotonic() > end:
                raise TimeoutError(f"{expression} not true after {seconds} s; errors: {self.log.errors}")
            time.sleep(0.1)

    def press(self, key: str, code: int, text: str = "") -> None:
        """One key press on the element in focus; `text` is what it types."""
        for kind in ("keyDown" if text else "rawKeyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **typed)

    def middle_of(self, selector: str) -> tuple[float, float]:
        """The middle of an element, which is scrolled into the window."""
        box = f"document.querySelector({selector!r}).getBoundingClientRect()"
        self.evaluate(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center', behavior: 'instant'}})")
        return tuple(self.evaluate(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({box})"))

    def mouse(self, kind: str, x: float, y: float) -> None:
        """A mouse event, mouseMoved, mousePressed or mouseReleased, and time to draw what follows from it."""
        button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)
        time.sleep(DRAWING_S)

    def drag_finger(self, *way: tuple[float, float]) -> None:
        """A finger put down, moved along the way and lifted; a way of one point is a tap."""
        for n, (x, y) in enumerate(way):
            self.call("Input.dispatchTouchEvent", type="touchMove" if n else "touchStart", touchPoints=[{"x": x, "y": y}])
            time.sleep(DRAWING_S)
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def accessibility_faults(self) -> list[str]:
        """What axe finds that is serious or critical: rule, impact and the first elements."""
        self.evaluate(AXE.read_text(encoding="utf-8") + "; 0")
        found = self.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then((result) => result.violations.map("
            "(rule) => [rule.impact, rule.id + ': ' + rule.nodes.slice(0, 3).map((node) => node.html.slice(0, 200)).join(' | ')]))"
        )
        return [f"{impact} {text}" for impact, text in found if impact in ("serious", "critical")]

    def screenshot(self, path: Path, whole: bool = False) -> bytes:
        """PNG of the window, or of the whole page."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))
        return path.read_bytes()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command on the page."""
        return self._call(method, session=self._session, **parameters)

    def _call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._next += 1
        message = {"id": self._next, "method": method, "params": parameters} | ({"sessionId": session} if session else {})
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._next:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer.get("method", ""), answer.get("params", {}))

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            part = os.read(self._read, 1 << 20)
            if not part:
                raise RuntimeError(f"chromium ended with code {self._process.poll()}")
            self._buffer += part
        text, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(text)

    def _note(self, method: str, event: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.log.requests.append(event["request"]["url"][:200])
        elif method == "Network.loadingFailed":
            self.log.failed.append(f"{event.get('type')}: {event.get('errorText')} {event.get('blockedReason', '')}")
        elif method == "Runtime.exceptionThrown":
            self.log.errors.append(str(event["exceptionDetails"]))
        elif method == "Log.entryAdded" and event["entry"]["level"] == "error":
            self.log.errors.append(event["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and event["type"] in ("error", "assert"):
            self.log.errors.append(str([argument.get("value", argument.get("description")) for argument in event["args"]]))
