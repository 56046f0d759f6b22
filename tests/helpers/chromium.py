"""A headless Chromium, steered through its DevTools protocol: opens a page, runs code in it, takes its picture."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

PATH = shutil.which("chromium")
_START_S = 120.0
_ANSWER_S = 120.0
_OPTIONS = (
    *("--headless=new", "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
    *("--disable-extensions", "--disable-background-networking", "--mute-audio", "--hide-scrollbars"),
)


class Tab:
    """One open page."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._last = 0
        self.problems: list[str] = []
        """Errors and refusals (Content-Security-Policy) that the page's console showed."""

    async def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Send one command of the protocol and return its result."""
        self._last += 1
        await self._socket.send_json({"id": self._last, "method": method, "params": parameters})
        while True:
            answer = await asyncio.wait_for(self._socket.receive_json(), _ANSWER_S)
            self._note(answer)
            if answer.get("id") == self._last:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return dict(answer["result"])

    def _note(self, message: dict[str, Any]) -> None:
        method, parameters = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(parameters["exceptionDetails"])[:500])
        if method == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.problems.append(parameters["entry"]["text"])

    async def open(self, url: str, *, size: tuple[int, int] = (1280, 800), dark: bool = False) -> None:
        """Load a page in a window of so many pixels."""
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call("Emulation.setEmulatedMedia", features=[scheme])
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False
        )
        await self.call("Page.navigate", url=url)
        await self.until("location.href !== 'about:blank' && document.readyState === 'complete'")

    async def run(self, code: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        result = await self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(json.dumps(result["exceptionDetails"])[:500])
        return result["result"].get("value")

    async def until(self, code: str, seconds: float = 120.0) -> Any:
        """Wait for an expression to become true, and return its value."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            value = await self.run(code)
            if value:
                return value
            await asyncio.sleep(0.05)
        raise TimeoutError(f"never true within {seconds} s: {code}")

    async def press(self, key: str) -> None:
        """Press one key."""
        text = {"text": key} if len(key) == 1 else {}
        await self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        await self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    async def click(self, x: float, y: float) -> None:
        """Press and release the left button at a place of the window."""
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    async def screenshot(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", format="png"))["data"])


class Process:
    """The process of a browser, with a profile of its own; several :class:`Chromium` may use one."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="chromium-")
        # Chromium's sandbox doesn't work for root; the pages here are our own.
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [str(PATH), *_OPTIONS, *root, f"--user-data-dir={self._folder}", "about:blank"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )

    @property
    def is_running(self) -> bool:
        """Whether it has neither ended nor been stopped."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End it and remove its profile."""
        # Its own group: the browser and the processes that it started.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def address(self) -> tuple[int, str]:
        """The port, and the path of the browser's own socket, which it writes into its profile."""
        path, end = Path(self._folder) / "DevToolsActivePort", time.monotonic() + _START_S
        while time.monotonic() < end:
            if path.exists() and len(lines := path.read_text().splitlines()) == 2:
                return int(lines[0]), lines[1]
            if not self.is_running:
                raise RuntimeError(f"chromium ended with code {self._process.returncode}")
            await asyncio.sleep(0.05)
        raise TimeoutError(f"chromium didn't start within {_START_S} s")


class Chromium:
    """A browser with cookies and storage of its own; ``async with Chromium() as browser``."""

    def __init__(self, process: Process | None = None) -> None:
        self._given = process

    async def __aenter__(self) -> Chromium:
        import aiohttp

        self._process = self._given or Process()
        self._session = aiohttp.ClientSession()
        port, path = await self._process.address()
        self._url = f"ws://127.0.0.1:{port}"
        self._browser = Tab(await self._session.ws_connect(self._url + path, max_msg_size=0))
        self._context = (await self._browser.call("Target.createBrowserContext"))["browserContextId"]
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            if self._given and self._given.is_running:
                await self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)
        finally:
            await self._session.close()
            if not self._given:
                self._process.stop()

    async def new_tab(self) -> Tab:
        """Open another page."""
        target = await self._browser.call("Target.createTarget", url="about:blank", browserContextId=self._context)
        return Tab(await self._session.ws_connect(f"{self._url}/devtools/page/{target['targetId']}", max_msg_size=0))


Work = Callable[[Chromium], Awaitable[Any]]
"""What a test does with a browser."""
InBrowser = Callable[[Work], Any]
"""The fixture ``in_browser``."""


class Shared:
    """One process for many tests: a start takes seconds."""

    def __init__(self) -> None:
        self._process: Process | None = None

    def run(self, work: Work) -> Any:
        """Work with a browser; after a failure the next test gets another process."""
        self._process = process = self._process or Process()

        async def whole() -> Any:
            async with Chromium(process) as browser:
                return await work(browser)

        try:
            return asyncio.run(whole())
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process:
            self._process.stop()
        self._process = None
