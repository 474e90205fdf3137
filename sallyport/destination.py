"""A destination: the scheme, host and port a sandbox process asked for."""

from typing import NamedTuple

DEFAULT_PORTS = {"http": 80, "https": 443}


class Destination(NamedTuple):
    """Where a request goes. `scheme` is "http" or "https", `host` is normalized (sallyport.host), `port` 1..65535.

    A tuple, because one is made or looked up for every request.
    """

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        """The Host header for this destination: IPv6 in brackets, the port only when it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def host_port(self) -> str:
        """`host:port` with the port always written, as CONNECT and connect_to spell it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def origin(self) -> str:
        """`scheme://authority`, the beginning of every URL at this destination."""
        return f"{self.scheme}://{self.authority}"
