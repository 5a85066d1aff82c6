"""Resend: Svix's signature of its webhook."""

import pytest

from mail.errors import CredentialsIncomplete, WebhookRejected
from mail.providers.base import WebhookRequest
from mail.providers.resend import Resend
from tests.support.providers.resend import sign_svix
from tests.support.providers.sample import URL, payloads

RESEND = Resend()
BODY = payloads("resend")["delivered"]
OLD, NEW = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
ID = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"


def verify(signature: str, *secrets: str, body: bytes = BODY, identity: str = ID, at: str = "1614265330") -> None:
    headers = {"svix-id": identity, "svix-timestamp": at, "svix-signature": signature}
    RESEND.verify_webhook(WebhookRequest("POST", URL, headers, body), secrets)


def test_the_example_of_the_specification_holds() -> None:
    """standardwebhooks.com's own vector: its signature, by this library and by any other."""
    body = b'{"test": 2432232314}'
    signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    verify(signature, OLD, body=body, identity="msg_p5jXN8AQM9LWM0D4loKWxJek")


def test_several_signatures_stand_in_one_header_during_a_rotation() -> None:
    both = f"v1a,{'A' * 86}== {sign_svix(BODY, OLD)} {sign_svix(BODY, NEW)}"
    for secrets in ((OLD,), (NEW,), (NEW, OLD), ("rubbish", OLD)):
        verify(both, *secrets)
    verify(sign_svix(BODY, OLD), NEW, OLD)


@pytest.mark.parametrize("at", [0, 1, 1614265330, 99999999999])
def test_a_signature_holds_at_any_age(at: int) -> None:
    verify(sign_svix(BODY, OLD, at=at), OLD, at=str(at))


def test_a_secret_is_taken_without_its_prefix_by_no_one() -> None:
    RESEND.check_webhook_secret(OLD)
    for wrong in (
        OLD.removeprefix("whsec_"),
        "whsec_",
        "whsec_abc",
        "whsec_" + "A" * 17,
        OLD + " ",
        "re_123456789012345",
    ):
        with pytest.raises(CredentialsIncomplete, match="whsec_"):
            RESEND.check_webhook_secret(wrong)


def test_id_and_timestamp_are_part_of_what_is_signed() -> None:
    signature = sign_svix(BODY, OLD)
    for changed in ({"identity": ID + "x"}, {"at": "1614265331"}, {"body": BODY + b" "}, {"body": BODY[:-2]}):
        with pytest.raises(WebhookRejected):
            verify(signature, OLD, **changed)  # type: ignore[arg-type]


def test_another_accounts_secret_is_rejected() -> None:
    for secrets in ((NEW,), (), ("",), ("whsec_",), ("whsec_é",)):
        with pytest.raises(WebhookRejected):
            verify(sign_svix(BODY, OLD), *secrets)


@pytest.mark.parametrize(
    "signature",
    ["", "é", "v1", "v1,", "v1,%%%", "v1,é", "v1," + "A" * 5000, "v2," + "A" * 44, sign_svix(BODY, OLD)[3:], " "],
)
def test_a_malformed_signature_is_rejected(signature: str) -> None:
    with pytest.raises(WebhookRejected):
        verify(signature, OLD)


@pytest.mark.parametrize("value", ["", "é", "-1", "1.5", "9" * 12, "soon", "\x00"])
def test_a_malformed_timestamp_is_rejected(value: str) -> None:
    with pytest.raises(WebhookRejected, match="timestamp"):
        verify(sign_svix(BODY, OLD), OLD, at=value)


@pytest.mark.parametrize("value", ["", "é", "x" * 5000])
def test_a_malformed_id_is_rejected(value: str) -> None:
    with pytest.raises(WebhookRejected, match="id"):
        verify(sign_svix(BODY, OLD), OLD, identity=value)


def test_a_body_that_isnt_utf_8_is_rejected() -> None:
    with pytest.raises(WebhookRejected, match="UTF-8"):
        verify(sign_svix(b"\xff", OLD), OLD, body=b"\xff")
