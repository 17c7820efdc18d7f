"""A headless Chromium that tests talk to by the DevTools protocol, over two pipes: no other library."""

import base64
import contextlib
import io
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np

PATIENCE_S = 60
FLAGS = (
    "headless no-sandbox disable-gpu no-first-run disable-background-networking disable-component-update "
    "disable-sync hide-scrollbars remote-debugging-pipe"
)


def chromium() -> str | None:
    """Path of the browser, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((found for found in map(shutil.which, names) if found), None)


class Browser:
    """A tab.

    Attributes
    ----------
    requests, refused, complaints : list of str
        What the page asked for, why that was refused, and what the browser complains of.
    """

    def __init__(self, profile: Path):
        (theirs_in, self._out), (self._in, theirs_out) = os.pipe(), os.pipe()
        flags = [f"--{flag}" for flag in FLAGS.split()]
        flags += [f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND"]
        script = f'exec "$0" "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, chromium(), *flags],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._count, self._rest, self._session = 0, b"", None
        self.requests: list[str] = []
        self.refused: list[str] = []
        self.complaints: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def close(self) -> None:
        with contextlib.suppress(OSError, AssertionError):
            self._session = None
            self.call("Browser.close")
        os.close(self._out)
        os.close(self._in)
        self._process.wait(PATIENCE_S)

    def call(self, method: str, **parameters) -> dict:
        """Send a command and return its answer; what happens meanwhile is noted."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._count:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self) -> dict:
        end = time.monotonic() + PATIENCE_S
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._in], [], [], max(0, end - time.monotonic()))
            part = os.read(self._in, 1 << 20) if ready else b""
            assert part, "the browser does not answer"
            self._rest += part
        text, self._rest = self._rest.split(b"\0", 1)
        return json.loads(text)

    def _note(self, event: dict) -> None:
        method, what = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])
        elif method == "Network.loadingFailed":
            self.refused.append(what.get("blockedReason", ""))
        elif method == "Log.entryAdded":
            self.complaints.append(what["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(what["exceptionDetails"]))

    # ---------------------------------------------------------------------------------------- what tests do

    def open(self, page: Path, width: int = 1100, height: int = 900, mobile: bool = False) -> None:
        """Open a page, and wait until it is drawn."""
        self.requests, self.refused, self.complaints = [], [], []
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=mobile,
        )
        self.call("Emulation.setEmulatedMedia", media="screen")
        self.call("Page.navigate", url=Path(page).resolve().as_uri())
        self.js(
            "new Promise(done => document.readyState == 'complete' ? done() : addEventListener('load', done))"
        )
        self.settle()

    def js(self, code: str):
        """Value of an expression in the page; a promise is awaited."""
        answer = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def settle(self) -> None:
        """Wait for the next two frames."""
        self.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done())))")

    def pixels(self, selector: str = "canvas") -> np.ndarray:
        """Pixels of a canvas, shape (height, width, 4)."""
        self.settle()
        url = self.js(f"document.querySelector({selector!r}).toDataURL()")
        return _image(url.partition(",")[2])

    def screenshot(self, path: Path | None = None) -> np.ndarray:
        """The whole page."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        data = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip={**size, "scale": 1})[
            "data"
        ]
        if path is not None:
            Path(path).write_bytes(base64.b64decode(data))
        return _image(data)

    def pdf(self, path: Path) -> Path:
        """The page as it is printed."""
        self.call("Emulation.setEmulatedMedia", media="")
        data = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=False)["data"]
        Path(path).write_bytes(base64.b64decode(data))
        return Path(path)

    def choose(self, selector: str, value, event: str = "change") -> None:
        """Set a control, and tell the page as a user's choice does."""
        find = f"document.querySelector({selector!r})"
        self.js(
            f"{find}.value = {json.dumps(value)};"
            f"{find}.dispatchEvent(new Event({event!r}, {{bubbles: true}}))"
        )
        self.settle()

    def place(self, selector: str) -> tuple[float, float]:
        """Middle of an element, brought into view."""
        find = f"document.querySelector({selector!r})"
        self.js(f"{find}.scrollIntoView({{block: 'center'}})")
        self.settle()
        box = self.js(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({find}.getBoundingClientRect())")
        return tuple(box)

    def drag(self, selector: str, x: float, y: float) -> None:
        """Press on the middle of an element, move and let go."""
        here = self.place(selector)
        there = (here[0] + x, here[1] + y)
        for kind, at in (("mousePressed", here), ("mouseMoved", there), ("mouseReleased", there)):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=at[0],
                y=at[1],
                button="left",
                clickCount=1,
                buttons=1,
            )
        self.settle()

    def key(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)
        self.settle()


def _image(data: str) -> np.ndarray:
    from matplotlib.image import imread

    return imread(io.BytesIO(base64.b64decode(data)), format="png")
