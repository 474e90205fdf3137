import base64

from control_plane.webhooks.signing import new_secret, shown_once, signed_headers, standard_signature
from sallyport.secret import Secret
from tests.support.control_plane import NOW
from tests.support.subscriber import Told


def test_what_we_sign_is_verified_by_the_specification() -> None:
    secret = new_secret()
    headers = signed_headers(secret, "evt_1", NOW + 0.9, b"body")
    told = Told("/", headers["webhook-id"], headers["webhook-timestamp"], headers["webhook-signature"], b"body")
    assert (told.id, told.timestamp) == ("evt_1", "1800000000")
    assert told.is_signed_with(shown_once(secret))
    assert not told._replace(body=b"bodY").is_signed_with(shown_once(secret))
    assert not told.is_signed_with(shown_once(new_secret()))


def test_a_secret_is_random_and_of_the_usual_form() -> None:
    texts = {shown_once(new_secret()) for _ in range(10)}
    assert len(texts) == 10
    assert all(len(base64.b64decode(text.removeprefix("whsec_"), validate=True)) == 32 for text in texts)
    assert "whsec" not in repr(new_secret())


def test_the_prefix_is_optional_and_the_rest_is_base64() -> None:
    bare = standard_signature(Secret(b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), b"i", b"1", b"")
    assert bare == standard_signature(Secret(b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), b"i", b"1", b"")
    assert standard_signature(Secret(b"whsec_!"), b"i", b"1", b"") is None
