from control_plane.feed.tiers import TIERS


def test_what_a_tier_sees() -> None:
    seen = {(one.value, other.value) for one in TIERS for other in TIERS if one.sees(other)}
    assert seen == {("standard", "standard"), ("admin", "standard"), ("admin", "admin")}
