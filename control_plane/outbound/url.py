"""Which URLs are asked at all; the addresses that one leads to are looked at when it is. Pure."""

from sallyport.host import is_loopback
from sallyport.plan.url import UrlError, split_url


def url_fault(url: str, *, is_plain_on_loopback: bool = False) -> str | None:
    """Say why a URL is never asked; None where it may be. Cleartext goes nowhere but to this machine, if anywhere."""
    try:
        destination = split_url(url).destination
    except UrlError as error:
        return str(error)
    if destination.scheme == "https" or (is_plain_on_loopback and is_loopback(destination.host)):
        return None
    return "https is expected, or http on loopback" if is_plain_on_loopback else "https is expected"
