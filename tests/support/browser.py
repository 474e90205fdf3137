"""Headless Chromium driven over HTTP, as WebDriver (https://www.w3.org/TR/webdriver2/) has it, by Debian's driver."""

import base64
import contextlib
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx

PROGRAMS: Final = ("chromium", "chromedriver")
ARGUMENTS: Final = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1100,1400"),
)
WAIT_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.02
# What a driver calls a reference to an element.
_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"
_STARTED: Final = re.compile(r"started successfully on port (\d+)")


def missing_programs() -> list[str]:
    """Return which programs are not there; `apt-get install chromium chromium-driver` brings both."""
    return [name for name in PROGRAMS if shutil.which(name) is None]


class Browser:
    """One window."""

    def __init__(self, client: httpx.Client, session: str) -> None:
        self._client = client
        self._session = session

    def __repr__(self) -> str:
        return f"<Browser at {self.url}>"

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self._ask("GET", "/url"))

    @property
    def text(self) -> str:
        """What can be read on the page."""
        return str(self._ask("GET", f"/element/{self._find('body')}/text"))

    def open(self, url: str) -> None:
        """Go to a URL, and wait until it is there."""
        self._ask("POST", "/url", {"url": url})

    def await_text(self, words: str) -> None:
        """Wait until these words can be read on the page, which goes on by itself."""
        deadline = time.perf_counter() + WAIT_SECONDS
        while words not in self.text:
            assert time.perf_counter() < deadline, f"no {words!r} in {self.text!r}"
            time.sleep(_POLL_SECONDS)

    def follow(self, words: str) -> None:
        """Click the link with these words, and wait for its page."""
        self._leave_by(self._find(words, "link text"))

    def write(self, selector: str, text: str) -> None:
        """Put a text into a field in the place of what is in it."""
        element = self._find(selector)
        self._ask("POST", f"/element/{element}/clear", {})
        self._ask("POST", f"/element/{element}/value", {"text": text})

    def press(self, words: str, *, row: str = "") -> None:
        """Click the first button with these words, in the row of a table with those, and wait for what follows."""
        within = f'//tr[contains(., "{row}")]' if row else ""
        self._leave_by(self._find(f'{within}//button[normalize-space()="{words}"]', "xpath"))

    def choose(self, name: str, words: str) -> None:
        """Choose the first option with these words in it."""
        option = f"//select[@name='{name}']/option[contains(text(), '{words}')]"
        self._ask("POST", f"/element/{self._find(option, 'xpath')}/click", {})

    def value(self, selector: str) -> str:
        """Return what is in a field."""
        return str(self._ask("GET", f"/element/{self._find(selector)}/property/value"))

    @property
    def faulty(self) -> list[str]:
        """The names of the fields that say what is wrong with them."""
        found = self._ask("POST", "/elements", {"using": "css selector", "value": ".faulty:has(.issue) [name]"})
        return [str(self._ask("GET", f"/element/{each[_ELEMENT]}/property/name")) for each in found]

    def cookie(self, name: str) -> Mapping[str, Any]:
        """Return a cookie with its attributes."""
        found: Mapping[str, Any] = self._ask("GET", f"/cookie/{name}")
        return found

    def complaints(self) -> list[str]:
        """Return what the browser complained of since the last time: refused styles, scripts, failed loads."""
        return [str(entry["message"]) for entry in self._ask("POST", "/se/log", {"type": "browser"})]

    def save_picture(self, path: Path) -> None:
        """Write a PNG of the whole page."""
        whole = self._ask("POST", "/goog/cdp/execute", {"cmd": "Page.captureScreenshot", "params": _WHOLE})
        path.write_bytes(base64.b64decode(whole["data"]))

    def _leave_by(self, element: str) -> None:
        """Click, and wait until this page is gone: the click itself is answered before a slow one begins to come."""
        page = self._find("html")
        self._ask("POST", f"/element/{element}/click", {})
        deadline = time.perf_counter() + WAIT_SECONDS
        while self._client.get(f"/session/{self._session}/element/{page}/name").status_code == 200:
            assert time.perf_counter() < deadline, f"still at {self.url}"
            time.sleep(_POLL_SECONDS)

    def _find(self, selector: str, using: str = "css selector") -> str:
        found = self._ask("POST", "/element", {"using": using, "value": selector})
        return str(found[_ELEMENT])

    def _ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401  JSON
        answer = self._client.request(method, f"/session/{self._session}{path}", json=body)
        value = answer.json()["value"]
        assert answer.status_code == 200, (path, body, value)
        return value


_WHOLE: Final = {"format": "png", "captureBeyondViewport": True}


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start a browser with an empty profile within a folder."""
    with _driver() as port, httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
        options = {"args": [*ARGUMENTS, f"--user-data-dir={folder}"], "binary": shutil.which(PROGRAMS[0])}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        answer = client.post("/session", json={"capabilities": {"alwaysMatch": wanted}})
        assert answer.status_code == 200, answer.text
        session = answer.json()["value"]["sessionId"]
        try:
            yield Browser(client, session)
        finally:
            client.delete(f"/session/{session}")


@contextlib.contextmanager
def _driver() -> Iterator[int]:
    process = subprocess.Popen([PROGRAMS[1], "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        lines = (_STARTED.search(line) for line in process.stdout)
        yield next(int(found[1]) for found in lines if found is not None)
    finally:
        process.terminate()
        process.communicate(timeout=WAIT_SECONDS)
