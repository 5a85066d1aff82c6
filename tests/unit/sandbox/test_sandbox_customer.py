"""Every vendor of the sandbox in the same way: joined as its documentation has it, heard, and its proof checked."""

import asyncio
import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from carepost.sandbox import customer
from carepost.sandbox.customer import Joined
from carepost.sandbox.outcomes import OUTCOMES
from carepost.sandbox.vendors import VENDORS
from tests.unit.sandbox.letters import PASSWORD, send

# What each vendor posts about an outcome; SendGrid's stand in test_sandbox_esp.
EVENTS: dict[str, dict[str, set[str]]] = {
    "postmark": {
        "delivered": {"Delivery"},
        "opened": {"Delivery", "Open"},
        "machine-open": {"Delivery", "Open"},
        "bounced": {"Bounce/HardBounce"},
        "full": {"Bounce/SoftBounce"},
        "soft": {"Bounce/Blocked"},
        "deferred": {"Bounce/Transient", "Delivery"},
        "late-bounce": {"Delivery", "Bounce/HardBounce"},
        "auto-reply": {"Delivery", "Bounce/AutoResponder"},
        "complained": {"Delivery", "SpamComplaint/SpamComplaint", "SubscriptionChange"},
        "unsubscribed": {"Delivery", "SubscriptionChange"},
        "silent": set(),
    },
    "mailgun": {
        "delivered": {"accepted", "delivered"},
        "opened": {"accepted", "delivered", "opened"},
        "machine-open": {"accepted", "delivered", "opened"},
        "bounced": {"accepted", "failed/permanent/bounce"},
        "full": {"accepted", "failed/permanent/generic"},
        "soft": {"accepted", "failed/permanent/espblock"},
        "suppressed": {"failed/permanent/suppress-bounce"},
        "deferred": {"accepted", "failed/temporary/generic", "delivered"},
        "late-bounce": {"accepted", "delivered", "failed/permanent/bounce"},
        "auto-reply": {"accepted", "delivered"},
        "complained": {"accepted", "delivered", "complained"},
        "unsubscribed": {"accepted", "delivered", "unsubscribed"},
        "silent": {"accepted"},
    },
    "resend": {
        "delivered": {"email.sent", "email.delivered"},
        "opened": {"email.sent", "email.delivered", "email.opened"},
        "machine-open": {"email.sent", "email.delivered", "email.opened"},
        "bounced": {"email.sent", "email.bounced/Permanent/General"},
        "full": {"email.sent", "email.bounced/Transient/MailboxFull"},
        "soft": {"email.sent", "email.bounced/Transient/General"},
        "suppressed": {"email.suppressed"},
        "deferred": {"email.sent", "email.delivery_delayed", "email.delivered"},
        "late-bounce": {"email.sent", "email.delivered", "email.bounced/Permanent/General"},
        "auto-reply": {"email.sent", "email.delivered"},
        "complained": {"email.sent", "email.delivered", "email.complained"},
        "unsubscribed": {"email.sent", "email.delivered"},
        "silent": {"email.sent"},
    },
    "amazon_ses": {
        "delivered": {"Send", "Delivery"},
        "opened": {"Send", "Delivery", "Open"},
        "machine-open": {"Send", "Delivery", "Open"},
        "bounced": {"Send", "Bounce/Permanent/General"},
        "full": {"Send", "Bounce/Transient/MailboxFull"},
        "soft": {"Send", "Bounce/Transient/General"},
        "suppressed": {"Send", "Bounce/Permanent/OnAccountSuppressionList"},
        "deferred": {"Send", "DeliveryDelay", "Delivery"},
        "late-bounce": {"Send", "Delivery", "Bounce/Permanent/General"},
        "auto-reply": {"Send", "Delivery", "Bounce/Transient/General"},
        "complained": {"Send", "Delivery", "Complaint"},
        "unsubscribed": {"Send", "Delivery"},
        "silent": {"Send"},
    },
}


def postmark_event(document: dict[str, Any]) -> tuple[str, str, str]:
    kind = document["RecordType"] + (f"/{document['Type']}" if "Type" in document else "")
    return document.get("Recipient") or document["Email"], kind, document["Metadata"]["carepost_id"]


def mailgun_event(document: dict[str, Any]) -> tuple[str, str, str]:
    event = document["event-data"]
    parts = [event[name] for name in ("event", "severity", "reason") if name in event]
    return event["recipient"], "/".join(parts), event["user-variables"]["carepost_id"]


def resend_event(document: dict[str, Any]) -> tuple[str, str, str]:
    data = document["data"]
    bounce = [data["bounce"][name] for name in ("type", "subType")] if "bounce" in data else []
    return data["to"][0], "/".join([document["type"], *bounce]), data["tags"]["carepost_id"]


def ses_event(document: dict[str, Any]) -> tuple[str, str, str]:
    event = json.loads(document["Message"])
    bounce = [event["bounce"][name] for name in ("bounceType", "bounceSubType")] if "bounce" in event else []
    mail = event["mail"]
    return mail["destination"][0], "/".join([event["eventType"], *bounce]), mail["tags"]["carepost_id"][0]


READ: dict[str, Callable[[dict[str, Any]], tuple[str, str, str]]] = {
    "postmark": postmark_event,
    "mailgun": mailgun_event,
    "resend": resend_event,
    "amazon_ses": ses_event,
}


async def joined(sandbox: Any, receiver: Any, vendor: str) -> Joined:
    """An account whose events reach the receiver; SNS's question is answered."""
    account = await customer.join(sandbox.client, vendor, receiver.url, PASSWORD)
    await customer.listen(sandbox.client, vendor, receiver.url)
    if vendor == "amazon_ses":
        await receiver.until(lambda: bool(receiver.posts))
        question = json.loads(receiver.posts[0][1])
        assert question["Type"] == "SubscriptionConfirmation"
        url = urlsplit(question["SubscribeURL"])
        assert (url.scheme, url.netloc) == ("https", "sns.us-east-1.amazonaws.com")
        answer = await sandbox.client.get(f"/?{url.query}")
        assert answer.status_code == 200
        assert "<SubscriptionArn>arn:aws:sns:us-east-1:123456789012:email-events:" in answer.text
        await receiver.until(lambda: any(b"Successfully validated" in body for _, body in receiver.posts))
        receiver.posts = [post for post in receiver.posts if is_event(post)]
    return account


def is_event(post: tuple[dict[str, str], bytes]) -> bool:
    document = json.loads(post[1])
    return (
        document.get("Type", "Notification") != "SubscriptionConfirmation" and b"Successfully validated" not in post[1]
    )


def heard(receiver: Any, vendor: str) -> dict[str, set[str]]:
    """By recipient: the kinds of its events."""
    found: dict[str, set[str]] = {}
    for post in receiver.posts:
        if is_event(post):
            recipient, kind, carepost_id = READ[vendor](json.loads(post[1]))
            assert carepost_id == "m-1"
            found.setdefault(recipient, set()).add(kind)
    return found


def test_every_vendor_is_here():
    assert EVENTS.keys() | {"sendgrid"} == VENDORS.keys()
    for vendor, events in EVENTS.items():
        refused_at_once = {"suppressed"} if vendor == "postmark" else set()
        assert events.keys() | {"missed"} | refused_at_once == OUTCOMES.keys()


@pytest.mark.parametrize("vendor", EVENTS)
async def test_each_outcome_posts_the_vendors_events_each_in_a_post_of_its_own(sandbox, receiver, vendor):
    await joined(sandbox, receiver, vendor)
    expected = {f"{name}+x@sandbox.example": kinds for name, kinds in EVENTS[vendor].items() if kinds}
    for recipient in [*expected, "missed+x@sandbox.example"]:
        answer = await send(sandbox, vendor, recipient)
        assert answer.status_code == 200, answer.text
    await receiver.until(lambda: heard(receiver, vendor) == expected)


@pytest.mark.parametrize("vendor", VENDORS)
async def test_what_opens_is_not_told_where_opens_are_not_tracked(sandbox, receiver, vendor):
    await sandbox.client.post("/_faults", json={"vendor": vendor, "hold_ms": 1})
    if vendor == "resend":  # there the domain decides, and no email
        from carepost.sandbox.vendors.resend import api

        headers = {"authorization": f"Bearer {api.API_KEY}"}
        [domain] = (await sandbox.client.get("/domains", headers=headers)).json()["data"]
        path = f"/domains/{domain['id']}"
        assert (await sandbox.client.patch(path, json={"open_tracking": False}, headers=headers)).status_code == 200
    if vendor == "amazon_ses":
        await customer.join(sandbox.client, vendor, receiver.url)
    await send(sandbox, vendor, "opened@sandbox.example", tracked=False)
    [message] = await sandbox.messages("opened@sandbox.example")
    assert "opened" not in {event["happening"] for event in message["events"]}
    assert message["vendor"] == vendor


def check_postmark(headers: dict[str, str], body: bytes, secret: str) -> bool:
    return headers["authorization"] == f"Basic {base64.b64encode(secret.encode()).decode()}"


def check_mailgun(headers: dict[str, str], body: bytes, secret: str) -> bool:
    signed = json.loads(body)["signature"]
    mac = hmac.digest(secret.encode(), f"{signed['timestamp']}{signed['token']}".encode(), "sha256")
    return len(signed["token"]) == 50 and hmac.compare_digest(mac.hex(), signed["signature"])


def check_resend(headers: dict[str, str], body: bytes, secret: str) -> bool:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['svix-id']}.{headers['svix-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return headers["svix-signature"] == f"v1,{expected}"


@pytest.mark.parametrize(
    ("vendor", "check"), [("postmark", check_postmark), ("mailgun", check_mailgun), ("resend", check_resend)]
)
async def test_every_post_has_the_vendors_proof(sandbox, receiver, vendor, check):
    account = await joined(sandbox, receiver, vendor)
    await send(sandbox, vendor, "opened@sandbox.example")
    await receiver.until(lambda: len(receiver.posts) >= 2)
    assert all(check(headers, body, account.secret) for headers, body in receiver.posts)
    assert not any(check(headers, body, f"{account.secret}BBBB") for headers, body in receiver.posts)


@pytest.mark.parametrize("version", ["1", "2"])
async def test_sns_signs_by_the_certificate_that_it_names(sandbox, receiver, version):
    account = await joined(sandbox, receiver, "amazon_ses")
    fields = {"TopicArn": account.secret, "AttributeName": "SignatureVersion", "AttributeValue": version}
    await customer._sns(sandbox.client, Action="SetTopicAttributes", **fields)
    await send(sandbox, "amazon_ses", "delivered@sandbox.example")
    await receiver.until(lambda: len(receiver.posts) >= 2)
    headers, body = receiver.posts[0]
    message = json.loads(body)
    assert (message["SignatureVersion"], message["TopicArn"]) == (version, account.secret)
    assert headers["x-amz-sns-message-type"] == message["Type"] == "Notification"
    assert headers["content-type"] == "text/plain; charset=UTF-8"
    url = message["SigningCertURL"]
    assert re.fullmatch(r"https://sns\.us-east-1\.amazonaws\.com/SimpleNotificationService-[0-9a-f]{32}\.pem", url)
    certificate = x509.load_pem_x509_certificate((await sandbox.client.get(urlsplit(url).path)).content)
    key = certificate.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    text = "".join(
        f"{name}\n{message[name]}\n"
        for name in ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
        if name in message
    )
    digest = hashes.SHA1() if version == "1" else hashes.SHA256()
    key.verify(base64.b64decode(message["Signature"]), text.encode(), padding.PKCS1v15(), digest)
    assert (await sandbox.client.get("/SimpleNotificationService-00.pem")).status_code == 403


async def test_sns_posts_nothing_until_the_subscription_is_confirmed(sandbox, receiver):
    await customer.join(sandbox.client, "amazon_ses", receiver.url)
    await customer.listen(sandbox.client, "amazon_ses", receiver.url)
    await send(sandbox, "amazon_ses", "opened@sandbox.example")
    await receiver.until(lambda: bool(receiver.posts))
    [message] = await sandbox.messages("opened@sandbox.example")
    question = json.loads(receiver.posts[0][1])
    wrong = parse_qs(urlsplit(question["SubscribeURL"]).query) | {"Token": ["00"]}
    answer = await sandbox.client.get("/", params={name: values[0] for name, values in wrong.items()})
    assert (answer.status_code, "InvalidParameter" in answer.text) == (400, True)
    assert {json.loads(body)["Type"] for _, body in receiver.posts} == {"SubscriptionConfirmation"}
    assert all(event["posts"] == [] for event in message["events"])


@pytest.mark.parametrize(
    ("vendor", "answers", "posts"),
    [
        ("postmark", [500, 500, 500, 500], 4),  # a delivery: at once, and after 1, 5 and 15 minutes
        ("postmark", [403], 1),
        ("mailgun", [500, 500], 1),  # a delivery is never posted again
        ("resend", [500, 404, 500], 4),
        ("amazon_ses", [500, 429, 500, 500, 500], 4),
        ("amazon_ses", [404], 1),
    ],
)
async def test_a_refused_post_comes_again_by_the_vendors_own_schedule(start_esp, receiver, vendor, answers, posts):
    async with start_esp(seed="4", max_delay=0.2) as sandbox:
        await joined(sandbox, receiver, vendor)
        # About the delivery alone, in the words of each.
        receiver.answers_to(rb'\\?"Delivery\\?"|"delivered"|email\.delivered', answers)
        await send(sandbox, vendor, "delivered@sandbox.example")

        async def statuses() -> list[int]:
            [message] = await sandbox.messages("delivered@sandbox.example")
            delivered = next(event for event in message["events"] if event["happening"] == "delivered")
            return [post["status"] for post in delivered["posts"]]

        async with asyncio.timeout(5):
            while len(await statuses()) < posts:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)  # in which another would have come
        assert await statuses() == [*answers, 200][:posts]
