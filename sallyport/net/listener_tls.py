"""The TLS of a listener that is told by settings: a certificate chain and its key, in files."""

# ruff: noqa: RUF009  setting() and its kin are dataclasses.field by another name

import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from sallyport.net.tls import ExposedKeyError, server_context
from sallyport.settings import PATH, Reader, optional_setting


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTls:
    """What a listener shows. Both files, or neither: then it has no TLS and stays on loopback."""

    certificate_file: Path | None = optional_setting(
        PATH, "The certificate chain of this listener, in PEM.", "Whoever connects verifies the name it was told."
    )
    key_file: Path | None = optional_setting(
        PATH,
        "The private key of that certificate, in PEM, readable by its user alone.",
        "Without a password: nobody is there to type it.",
    )

    @property
    def is_given(self) -> bool:
        """Whether the listener has TLS."""
        return self.certificate_file is not None and self.key_file is not None

    def is_whole(self, reader: Reader, pointer: str) -> bool:
        """Say whether both files are named or neither is; anything else is a fault at pointer."""
        if (self.certificate_file is None) == (self.key_file is None):
            return True
        reader.fault(pointer, "write both certificate_file and key_file, or neither")
        return False


def certificate_ends_at(tls: ListenerTls) -> float | None:
    """Say when the first certificate of the chain to end does so, in unix seconds; None where there is none."""
    if tls.certificate_file is None:
        return None
    try:
        chain = x509.load_pem_x509_certificates(tls.certificate_file.read_bytes())
    except (OSError, ValueError):
        return None  # listener_context() has shown it, or has said what is wrong
    return min(each.not_valid_after_utc.timestamp() for each in chain)


class ListenerTlsError(Exception):
    """The files cannot be shown; says why and what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.message = message
        self.hint = hint


def listener_context(setting: str, tls: ListenerTls) -> ssl.SSLContext | None:
    """Return the context of a listener, None where it has no TLS; raises ListenerTlsError."""
    if tls.certificate_file is None or tls.key_file is None:
        return None
    try:
        return server_context(str(tls.certificate_file), str(tls.key_file))
    except ExposedKeyError as error:
        raise ListenerTlsError(f"{setting}: others may read the private key {error}", f"chmod 600 {error}") from None
    except ssl.SSLError:
        fault = f"{setting}: {tls.certificate_file} and {tls.key_file} are no certificate chain and its key"
        raise ListenerTlsError(fault, "give both in PEM, the key without a password") from None
    except OSError as error:
        # OpenSSL names no file in its error.
        fault = f"{setting}: {tls.certificate_file} or {tls.key_file} cannot be read ({error.strerror})"
        raise ListenerTlsError(fault, "check the path and its permissions") from None
