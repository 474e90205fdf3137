"""Clients that post items without pause through a proxy, each item once, and remember which were acknowledged."""

import contextlib
import http.client
import itertools
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

REQUEST_SECONDS = 10.0
# After a failure: long enough not to spin on a refused port, short beside what is measured.
PAUSE_SECONDS = 0.01


class PostingLoad:
    """What the clients did. An item is acknowledged when a 200 with its name came back."""

    def __init__(self) -> None:
        self.acknowledged: list[tuple[float, str]] = []
        self.failures: list[str] = []
        self.stopped = threading.Event()
        self.threads: list[threading.Thread] = []

    def first_good_after(self, moment: float) -> float | None:
        """Return how many seconds after a moment (perf_counter) the first item was acknowledged that began after it."""
        later = [at for at, _ in list(self.acknowledged) if at > moment]
        return min(later) - moment if later else None

    def wait_acknowledged(self, more: int, within_seconds: float) -> None:
        """Wait for so many more items to be acknowledged; raises AssertionError."""
        enough = len(self.acknowledged) + more
        deadline = time.perf_counter() + within_seconds
        while len(self.acknowledged) < enough:
            assert time.perf_counter() < deadline, f"too few good requests; lately: {self.failures[-3:]}"
            time.sleep(0.005)

    def wait_good_after(self, moment: float, within_seconds: float) -> float:
        """Wait for that; raises AssertionError with what the clients met instead."""
        deadline = time.perf_counter() + within_seconds
        while (found := self.first_good_after(moment)) is None:
            assert time.perf_counter() < deadline, f"no good request; lately: {self.failures[-3:]}"
            time.sleep(0.005)
        return found

    def stop(self) -> None:
        """Begin no item more, and wait for those under way: what arrives changes no more then."""
        self.stopped.set()
        for thread in self.threads:
            thread.join()


@contextlib.contextmanager
def posting_load(proxy_url: str, ca_file: Path, host: str, *, clients: int = 4) -> Iterator[PostingLoad]:
    """Post until the block ends, each client on a connection that it makes anew when it breaks."""
    load = PostingLoad()
    load.threads = [
        threading.Thread(target=_post_forever, args=(load, number, proxy_url, ca_file, host), name=f"client {number}")
        for number in range(clients)
    ]
    for thread in load.threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop()


def _post_forever(load: PostingLoad, client: int, proxy_url: str, ca_file: Path, host: str) -> None:
    proxy = urlsplit(proxy_url)
    link: http.client.HTTPSConnection | None = None
    for number in itertools.count():
        if load.stopped.is_set():
            break
        item = f"{client}-{number}"
        begun_at = time.perf_counter()
        try:
            if link is None:
                # Read anew, as a program that starts does: a sandboxd that was killed comes back with another CA.
                trust = ssl.create_default_context(cafile=str(ca_file))
                link = http.client.HTTPSConnection(
                    proxy.hostname or "", proxy.port, timeout=REQUEST_SECONDS, context=trust
                )
                link.set_tunnel(host, 443)
            link.request("POST", "/items", item.encode())
            answer = link.getresponse()
            body = answer.read()
            if answer.status == 200 and body == item.encode():
                load.acknowledged.append((begun_at, item))
                continue
            load.failures.append(f"{answer.status} {body[:200]!r}")
        except (OSError, http.client.HTTPException) as error:
            load.failures.append(repr(error))
        if link is not None:
            link.close()
            link = None
        load.stopped.wait(PAUSE_SECONDS)
    if link is not None:
        link.close()
