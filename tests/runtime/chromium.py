"""A real headless Chromium, for tests that open a page: fetched once from its npm package, driven over two pipes."""

import base64
import hashlib
import json
import os
import select
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from crucible.adapters.assets import crucible_home

PACKAGE, VERSION = "@sparticuz/chromium", "153.0.0"
INTEGRITY = "sha512-jiGWqSvPMdu4+P9TilYqAR7yEGPEHINx+lCvE/NqNO/EHYzF/x1hUiI5T6ioVIt7dEy7n88byyT0vk+dnsgQwA=="
"""Of the package's archive: a Chromium for Linux on x86-64 with the libraries that a bare machine lacks, 70 MB."""

INSTEAD = "CRUCIBLE_TEST_CHROMIUM"
"""Environment variable: the Chromium or Chrome to use instead, on a machine that the package is not for."""

_UNPACK = (
    "const z=require('node:zlib'),f=require('node:fs');"
    "for(const n of process.argv.slice(1))f.writeFileSync(n.slice(0,-3),z.brotliDecompressSync(f.readFileSync(n)))"
)
_FLAGS = (
    "--headless=shell",
    "--remote-debugging-pipe",
    "--no-sandbox",  # which root cannot have; the only pages opened are our own
    "--no-zygote",
    "--disable-gpu",
    "--disable-webgl",
    "--no-first-run",
    "--no-pings",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--hide-scrollbars",
    "--font-render-hinting=none",
)
_FONTS = '<?xml version="1.0"?><fontconfig><dir prefix="relative">fonts</dir></fontconfig>'


def find_chromium() -> Path:
    """The browser's program; fetched, checked and unpacked on the first call."""
    if named := os.environ.get(INSTEAD):
        return Path(named)
    folder = crucible_home() / "packages" / f"sparticuz-chromium-{VERSION}"
    if not folder.is_dir():
        print(f"fetching {PACKAGE} {VERSION}, 70 MB, once", file=sys.stderr, flush=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as scratch:
            _fetch(Path(scratch))
            with suppress(OSError):  # another process was first
                (Path(scratch) / "package" / "bin").rename(folder)  # it appears whole
    return folder / "chromium"


def _fetch(scratch: Path) -> None:
    command = ["npm", "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", str(scratch)]
    subprocess.run(command, check=True, capture_output=True, cwd=scratch)
    (archive,) = scratch.glob("*.tgz")
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    assert f"sha512-{digest}" == INTEGRITY, f"{archive.name} is not the archive that was expected: {digest}"
    with tarfile.open(archive) as packed:
        packed.extractall(scratch, filter="data")
    bin_ = scratch / "package" / "bin"
    packed_files = [str(bin_ / name) for name in ("chromium.br", "al2023.tar.br", "fonts.tar.br")]
    subprocess.run(["node", "-e", _UNPACK, *packed_files], check=True, capture_output=True)
    (bin_ / "chromium").chmod(0o755)
    for name in ("al2023.tar", "fonts.tar"):
        with tarfile.open(bin_ / name) as libraries:
            libraries.extractall(bin_, filter="data")
    (bin_ / "fonts.conf").write_text(_FONTS)
    for leftover in [*bin_.glob("*.br"), *bin_.glob("*.tar")]:
        leftover.unlink()


class Page:
    """One page of one browser."""

    def __init__(self, browser: "_Browser", session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """One command of the DevTools protocol."""
        return self._browser.call(method, params, session=self._session)

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; a promise is awaited."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """Press a key: a letter, or a name such as `ArrowRight`; then wait until what it does is drawn."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))")

    def picture(self) -> bytes:
        """The window as a PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    @property
    def requests(self) -> list[str]:
        """Every address that was asked for, the page's own included."""
        told = self._browser.events("Network.requestWillBeSent", self._session)
        return [event["request"]["url"] for event in told]

    @property
    def complaints(self) -> list[str]:
        """What the page's console said, errors and refusals by its policy among it."""
        said = self._browser.events("Log.entryAdded", self._session)
        thrown = self._browser.events("Runtime.exceptionThrown", self._session)
        return [event["entry"]["text"] for event in said] + [str(event["exceptionDetails"]) for event in thrown]


@contextmanager
def opened(file: Path, *, width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Page]:
    """The file in a browser of its own."""
    with tempfile.TemporaryDirectory(prefix="crucible-chromium-", ignore_cleanup_errors=True) as profile:
        browser = _Browser(find_chromium(), Path(profile))
        try:
            target = browser.call("Target.createTarget", {"url": "about:blank", "width": width, "height": height})
            attached = browser.call("Target.attachToTarget", {"targetId": target["targetId"], "flatten": True})
            page = Page(browser, attached["sessionId"])
            for domain in ("Network", "Log", "Runtime", "Page"):
                page.call(f"{domain}.enable")
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            page.call("Emulation.setDeviceMetricsOverride", **size)
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            page.call("Emulation.setEmulatedMedia", features=[scheme])
            page.call("Page.navigate", url=file.resolve().as_uri())
            browser.wait_for("Page.loadEventFired", page._session)
            page.settle()
            yield page
        finally:
            browser.close()


class _Browser:
    """A browser process, and messages to and from it: JSON with a NUL behind each."""

    def __init__(self, program: Path, profile: Path) -> None:
        libraries = {"LD_LIBRARY_PATH": str(program.parent / "lib"), "HOME": str(profile)}
        if not Path("/etc/fonts").is_dir():
            libraries["FONTCONFIG_PATH"] = str(program.parent)
        (to_read, self._write), (self._read, to_write) = os.pipe(), os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, to_read, 103), (os.POSIX_SPAWN_DUP2, to_write, 104)]
        actions += [(os.POSIX_SPAWN_DUP2, 103, 3), (os.POSIX_SPAWN_DUP2, 104, 4)]  # theirs by agreement
        actions.append((os.POSIX_SPAWN_OPEN, 2, str(profile / "errors"), os.O_WRONLY | os.O_CREAT, 0o600))
        command = [str(program), *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._errors = profile / "errors"
        self._pid = os.posix_spawn(program, command, {**os.environ, **libraries}, file_actions=actions, setpgroup=0)
        os.close(to_read)
        os.close(to_write)
        self._buffer, self._last, self._told = b"", 0, list[dict[str, Any]]()

    def call(self, method: str, params: dict[str, Any], *, session: str | None = None) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._last:
            self._told.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def events(self, method: str, session: str) -> list[dict[str, Any]]:
        return [one["params"] for one in self._told if one.get("method") == method and one.get("sessionId") == session]

    def wait_for(self, method: str, session: str) -> None:
        while not self.events(method, session):
            self._told.append(self._next())

    def close(self) -> None:
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._write)
        os.close(self._read)

    def _next(self, patience: float = 60.0) -> dict[str, Any]:
        end = time.monotonic() + patience
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            data = os.read(self._read, 1 << 16) if ready else b""
            assert data, f"Chromium gave no answer: {self._errors.read_text(errors='replace')[-2000:]}"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)
