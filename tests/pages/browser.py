"""A headless Chromium that is driven as a person would: mouse, touch, keyboard.

It speaks the DevTools protocol over a pipe, which needs no library:
https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import json
import os
import re
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
PATIENCE = 60  # seconds
# What keeps it from calling home, and from any other host than this one.
QUIET = [
    *["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"],
    *["--disable-background-networking", "--disable-component-update", "--disable-quic"],
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
CHATTER = r"\[PST\]|\[togglebutton\]"  # what the theme's scripts always say of themselves
KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Enter": 13, "Tab": 9}
SHIFT = 8


class Page:
    """One page in a browser of its own; `close` ends both."""

    def __init__(self, profile: Path) -> None:
        (theirs_in, self._in), (self._out, theirs_out) = os.pipe(), os.pipe()
        # The protocol wants descriptors 3 and 4; the first pipe's end is the lowest that is free.
        command = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        options = ["--remote-debugging-pipe", f"--user-data-dir={profile}", *QUIET]
        self._process = subprocess.Popen(
            ["bash", "-c", command, BROWSER, *options],
            pass_fds=(theirs_in, theirs_out),
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer, self._number, self._session = b"", 0, None
        self.console: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        self._session = None
        self.call("Browser.close")
        self._process.wait(PATIENCE)
        os.close(self._in)
        os.close(self._out)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; what happens meanwhile is kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._in, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._out], [], [], PATIENCE)
            assert ready, f"the browser was silent for {PATIENCE} s"
            self._buffer += os.read(self._out, 1 << 20)
        message, _, self._buffer = self._buffer.partition(b"\0")
        event = json.loads(message)
        params = event.get("params", {})
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif event.get("method") == "Log.entryAdded":
            self._said(params["entry"]["text"])
        elif event.get("method") == "Runtime.exceptionThrown":
            self._said(json.dumps(params["exceptionDetails"]))
        elif event.get("method") == "Runtime.consoleAPICalled":
            self._said(json.dumps(params["args"]))
        return event

    def _said(self, text: str) -> None:
        if not re.search(CHATTER, text):
            self.console.append(text)

    def open(self, url: str, width: int = 1200, height: int = 1000, touch: bool = False) -> None:
        """Load a page in a window of this size."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        self.call("Emulation.setDeviceMetricsOverride", **size, mobile=touch)
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def media(self, kind: str = "screen", **features: str) -> None:
        """Emulate a medium: `media("print")`, `media(prefers_color_scheme="dark")`."""
        pairs = [{"name": k.replace("_", "-"), "value": v} for k, v in features.items()]
        self.call("Emulation.setEmulatedMedia", media=kind, features=pairs)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression of JavaScript."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until an expression holds."""
        end = time.monotonic() + PATIENCE
        while not self.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < end, f"never came true: {expression}"
            time.sleep(0.02)

    def place_of(self, selector: str, across: float = 0.5, down: float = 0.5) -> dict[str, float]:
        """Where in the window a part of an element is; it is scrolled into view."""
        return self.evaluate(
            f"""(() => {{
                const element = document.querySelector({json.dumps(selector)});
                element.scrollIntoView({{ block: "center", behavior: "instant" }});
                const box = element.getBoundingClientRect();
                return {{ x: box.left + {across} * box.width, y: box.top + {down} * box.height }};
            }})()"""
        )

    def click(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        at = self.place_of(selector, across, down)
        for kind in ("mousePressed", "mouseReleased"):
            button = {"button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, **at, **button)

    def tap(self, selector: str, across: float = 0.5, down: float = 0.5) -> None:
        at = self.place_of(selector, across, down)
        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[at])
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def press(self, key: str, shift: bool = False) -> None:
        code = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key]}
        if key == "Enter":
            code["text"] = "\r"
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, modifiers=SHIFT if shift else 0, **code)

    def type(self, text: str) -> None:
        for letter in text:
            self.call("Input.dispatchKeyEvent", type="char", text=letter)

    def screenshot(self, to: str | Path, whole: bool = True) -> None:
        answer = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        Path(to).write_bytes(base64.b64decode(answer["data"]))
