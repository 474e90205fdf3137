from sallyport.wire.errors import LocalProtocolError, RemoteProtocolError


def test_remote_error_carries_its_reason_and_a_status_for_the_peer() -> None:
    error = RemoteProtocolError("two lengths")
    assert (str(error), error.reason, error.status_hint) == ("two lengths", "two lengths", 400)
    assert RemoteProtocolError("head too large", 431).status_hint == 431


def test_our_mistake_is_not_the_peers() -> None:
    assert not issubclass(LocalProtocolError, RemoteProtocolError)
