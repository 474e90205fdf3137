"""Renewed tokens as they go to sandboxd, and that nothing prints them."""

from gateway.renewal import RenewedTokens, TokenRenewalError

TOKENS = RenewedTokens(token="canary-a", expires_at=10, renewal_token="canary-b", renewal_expires_at=20)


def test_a_response_says_everything_of_contracts_section_3() -> None:
    assert TOKENS.response("req_1") == {
        "type": "token.response",
        "requestId": "req_1",
        "token": "canary-a",
        "expiresAt": 10,
        "renewalToken": "canary-b",
        "renewalExpiresAt": 20,
    }


def test_no_token_is_printed() -> None:
    assert repr(TOKENS) == str(TOKENS) == "<RenewedTokens until 10>"


def test_an_error_says_whether_to_ask_again() -> None:
    error = TokenRenewalError("unavailable", temporary=True)
    assert (str(error), error.code, error.temporary) == ("unavailable", "unavailable", True)
