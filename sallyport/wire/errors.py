"""What the wire codecs raise; one class for each side that can break the protocol."""


class RemoteProtocolError(Exception):
    """The peer sent bytes that break its protocol.

    `reason` is for the log and may be told to the peer: it never quotes the bytes received.
    `status_hint` is the HTTP status that fits, for codecs whose peer is still owed an answer.
    """

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status_hint = status


class LocalProtocolError(Exception):
    """Our own code asked a codec for something the protocol does not allow; always a defect here."""
