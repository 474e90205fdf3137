from control_plane.oauth.proof import challenge, new_state, new_verifier, state_hash
from sallyport.secret import Secret


def test_the_challenge_of_the_rfc() -> None:
    """RFC 7636, appendix B."""
    verifier = Secret(b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    assert challenge(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_nothing_comes_twice_and_the_hash_tells_nothing() -> None:
    assert len({new_state() for _ in range(100)}) == 100
    assert new_verifier() != new_verifier()
    state = new_state()
    assert state_hash(state) == state_hash(state) != state_hash(new_state())
    assert state not in state_hash(state)
    assert len(state_hash("\ud800")) == 64  # whatever a browser brings
