"""What each vendor refuses, and how it says so; what it tells who asks."""

import asyncio
import json

import pytest

from tests.unit.sandbox.letters import (
    MAILGUN,
    POSTMARK,
    RESEND,
    mailgun_email,
    postmark_email,
    resend_email,
    send,
    ses_email,
    signed,
)

TO = "silent@sandbox.example"
OUTBOUND = "/v2/email/outbound-emails"


@pytest.mark.parametrize(
    ("change", "headers", "status", "code"),
    [
        ({}, {}, 401, 10),
        ({}, {**POSTMARK, "x-postmark-server-token": "wrong"}, 401, 10),
        ({"To": "nobody"}, POSTMARK, 422, 300),
        ({"To": "suppressed@sandbox.example"}, POSTMARK, 422, 406),
        ({"TextBody": None}, POSTMARK, 422, 300),
        ({"TrackOpens": "yes"}, POSTMARK, 422, 403),
        ({"Text": "x"}, POSTMARK, 422, 403),
        ({"Metadata": {"a-name-of-more-than-20": "x"}}, POSTMARK, 422, 300),
        ({"MessageStream": "other"}, POSTMARK, 422, 1235),
    ],
)
async def test_postmark_refuses_with_its_error_code(sandbox, change, headers, status, code):
    answer = await sandbox.client.post("/email", json=postmark_email(TO) | change, headers=headers)
    assert (answer.status_code, answer.json()["ErrorCode"]) == (status, code)
    assert await sandbox.messages(TO) == []


@pytest.mark.parametrize(
    ("change", "headers", "status", "name"),
    [
        ({}, {}, 401, "missing_api_key"),
        ({}, {"authorization": "Bearer re_no"}, 403, "invalid_api_key"),
        ({"from": "Desk"}, RESEND, 422, "invalid_from_address"),
        ({"to": ["nobody"]}, RESEND, 422, "validation_error"),
        ({"subject": ""}, RESEND, 422, "missing_required_field"),
        ({"text": None}, RESEND, 422, "missing_required_field"),
        ({"tags": [{"name": "a b", "value": "x"}]}, RESEND, 422, "validation_error"),
        ({"track_opens": True}, RESEND, 422, "validation_error"),
        ({}, {**RESEND, "idempotency-key": "k" * 257}, 400, "invalid_idempotency_key"),
    ],
)
async def test_resend_refuses_with_a_name(sandbox, change, headers, status, name):
    answer = await sandbox.client.post("/emails", json=resend_email(TO) | change, headers=headers)
    assert (answer.status_code, answer.json()["statusCode"], answer.json()["name"]) == (status, status, name)
    assert await sandbox.messages(TO) == []


async def test_resend_honours_an_idempotency_key(sandbox):
    headers = {**RESEND, "idempotency-key": "k"}
    ids = [(await sandbox.client.post("/emails", json=resend_email(TO), headers=headers)).json()["id"] for _ in "ab"]
    assert ids[0] == ids[1]
    assert len(await sandbox.messages(TO)) == 1
    other = await sandbox.client.post("/emails", json=resend_email(TO, subject="Other"), headers=headers)
    assert (other.status_code, other.json()["name"]) == (409, "invalid_idempotent_request")


async def test_resend_tells_of_a_key_in_use_and_frees_that_of_a_refusal(sandbox):
    headers = {**RESEND, "idempotency-key": "k"}
    await sandbox.client.post("/_faults", json={"vendor": "resend", "hold_ms": 300, "send_status": 500})
    first = asyncio.create_task(sandbox.client.post("/emails", json=resend_email(TO), headers=headers))
    await asyncio.sleep(0.1)
    second = await sandbox.client.post("/emails", json=resend_email(TO), headers=headers)
    assert (second.status_code, second.json()["name"]) == (409, "concurrent_idempotent_requests")
    assert (await first).status_code == 500
    assert (await sandbox.client.post("/emails", json=resend_email(TO), headers=headers)).status_code == 200


@pytest.mark.parametrize(
    ("change", "auth", "domain", "status", "message"),
    [
        ({}, None, "mg.sandbox.example", 401, "Forbidden"),
        ({}, MAILGUN, "other.example", 404, "Domain not found: other.example"),
        ({"from": ""}, MAILGUN, "mg.sandbox.example", 400, "from parameter is missing"),
        ({"to": "nobody"}, MAILGUN, "mg.sandbox.example", 400, "to parameter is not a valid address"),
        ({"text": ""}, MAILGUN, "mg.sandbox.example", 400, "Need at least one of"),
        ({"o:tracking-opens": "maybe"}, MAILGUN, "mg.sandbox.example", 400, "o:tracking-opens must be"),
        ({"v:long": "x" * 17_000}, MAILGUN, "mg.sandbox.example", 400, "limited to 16KB"),
    ],
)
async def test_mailgun_refuses_with_a_message(sandbox, change, auth, domain, status, message):
    answer = await sandbox.client.post(f"/v3/{domain}/messages", data=mailgun_email(TO) | change, auth=auth)
    assert (answer.status_code, message in answer.text) == (status, True)
    assert await sandbox.messages(TO) == []


@pytest.mark.parametrize(
    ("change", "how", "status", "code"),
    [
        ({}, {"secret": "wrong"}, 403, "SignatureDoesNotMatch"),
        ({}, {"key_id": "AKIANOBODY"}, 403, "UnrecognizedClientException"),
        ({}, {"service": "sns"}, 403, "SignatureDoesNotMatch"),
        ({}, {"alter": lambda h: h.pop("Authorization")}, 403, "MissingAuthenticationTokenException"),
        ({}, {"alter": lambda h: h.update({"X-Amz-Date": "20200101T000000Z"})}, 403, "SignatureDoesNotMatch"),
        ({}, {"alter": lambda h: h.update({"X-Amz-Target": "unsigned"})}, 403, "SignatureDoesNotMatch"),
        ({"ConfigurationSetName": "other"}, {}, 404, "NotFoundException"),
        ({"Content": {"Raw": {"Data": "%"}}}, {}, 400, "SerializationException"),
        ({"Content": {}}, {}, 400, "BadRequestException"),
        ({"Destination": {"ToAddresses": ["nobody"]}}, {}, 400, "BadRequestException"),
        ({"EmailTags": [{"Name": "a b", "Value": "x"}]}, {}, 400, "BadRequestException"),
        ({"Subject": "x"}, {}, 400, "SerializationException"),
        ({"ConfigurationOverrides": {"Tracking": {"OpenTrackingEnabled": True}}}, {}, 400, "BadRequestException"),
    ],
)
async def test_amazon_ses_refuses_with_a_type(sandbox, change, how, status, code):
    body = json.dumps(ses_email(TO, ConfigurationSetName="") | change).encode()
    answer = await signed(sandbox.client, "POST", OUTBOUND, body, **how)
    assert (answer.status_code, answer.headers["x-amzn-errortype"]) == (status, code)
    assert "message" in answer.json()
    assert await sandbox.messages(TO) == []


async def test_amazon_ses_takes_what_awss_own_signer_signed(sandbox):
    answer = await signed(sandbox.client, "POST", OUTBOUND, json.dumps(ses_email(TO, ConfigurationSetName="")).encode())
    assert answer.status_code == 200
    [message] = await sandbox.messages(TO)
    assert (message["message_id"], message["subject"]) == (answer.json()["MessageId"], "Your appointment")
    assert message["headers"]["Message-ID"] == "<1@practice.example>"


@pytest.mark.parametrize("vendor", ["postmark", "mailgun", "resend", "amazon_ses"])
async def test_faults_speak_each_vendors_words(sandbox, vendor):
    await sandbox.client.post("/_faults", json={"vendor": vendor, "send_status": 429, "retry_after": 2})
    answer = (
        await send(sandbox, vendor, TO)
        if vendor != "amazon_ses"
        else await signed(sandbox.client, "POST", OUTBOUND, json.dumps(ses_email(TO)).encode())
    )
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
    assert "fault" in answer.text


async def until_delivered(sandbox, to: str) -> str:
    [message] = await sandbox.messages(to)
    await asyncio.sleep(0.35)
    assert all(event["posts"] == [] for event in message["events"])
    return message["message_id"]


@pytest.mark.parametrize("vendor", ["postmark", "mailgun", "resend", "amazon_ses"])
async def test_who_asks_finds_what_was_never_posted(sandbox, receiver, vendor):
    to = "missed@sandbox.example"
    if vendor == "amazon_ses":
        body = json.dumps(ses_email(to, ConfigurationSetName="")).encode()
        await signed(sandbox.client, "POST", OUTBOUND, body)
    else:
        await send(sandbox, vendor, to)
    message_id = await until_delivered(sandbox, to)
    match vendor:
        case "postmark":
            details = await sandbox.client.get(f"/messages/outbound/{message_id}/details", headers=POSTMARK)
            assert [event["Type"] for event in details.json()["MessageEvents"]] == ["Delivered"]
        case "mailgun":
            condition = {"attribute": "message_id", "comparator": "=", "values": [{"value": message_id}]}
            wish = {"filter": {"AND": [condition]}, "pagination": {"sort": "timestamp:asc"}}
            logs = await sandbox.client.post("/v1/analytics/logs", json=wish, auth=MAILGUN)
            assert [item["event"] for item in logs.json()["items"]] == ["accepted", "delivered"]
            params = {"message-id": message_id, "event": "delivered"}
            events = await sandbox.client.get("/v3/mg.sandbox.example/events", params=params, auth=MAILGUN)
            assert [item["event"] for item in events.json()["items"]] == ["delivered"]
        case "resend":
            email = await sandbox.client.get(f"/emails/{message_id}", headers=RESEND)
            assert email.json()["last_event"] == "delivered"
        case _:
            answer = await signed(sandbox.client, "GET", f"/v2/email/insights/{message_id}/")
            [insight] = answer.json()["Insights"]
            assert [event["Type"] for event in insight["Events"]] == ["SEND", "DELIVERY"]


async def test_postmark_tells_of_a_messages_bounces(sandbox):
    await send(sandbox, "postmark", "bounced@sandbox.example")
    message_id = await until_delivered(sandbox, "bounced@sandbox.example")
    params = {"count": 50, "offset": 0, "messageID": message_id}
    found = (await sandbox.client.get("/bounces", params=params, headers=POSTMARK)).json()
    assert (found["TotalCount"], found["Bounces"][0]["Type"], found["Bounces"][0]["Inactive"]) == (
        1,
        "HardBounce",
        True,
    )
    assert (await sandbox.client.get("/bounces", headers=POSTMARK)).status_code == 422
