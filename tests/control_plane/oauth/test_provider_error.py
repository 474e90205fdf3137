from control_plane.oauth.provider_error import Fault, permanent, temporary


def test_an_error_says_its_fault_and_its_reason() -> None:
    assert (temporary("a", retry_after=3).fault, temporary("a", retry_after=3).retry_after) == (Fault.TEMPORARY, 3)
    assert (permanent("b").fault, str(permanent("b"))) == (Fault.PERMANENT, "b")
