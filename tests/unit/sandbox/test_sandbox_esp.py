import asyncio
import json
import stat
import time

import httpx2
import pytest
from cryptography.exceptions import InvalidSignature

from carepost.sandbox import outcomes

SETTINGS = "/v3/user/webhooks/event/settings"
ONE = {"Authorization": "Bearer SG.one"}

EVENTS = {
    "delivered": {"processed", "delivered"},
    "opened": {"processed", "delivered", "open"},
    "machine-open": {"processed", "delivered", "open"},
    "bounced": {"processed", "bounce"},
    "full": {"processed", "bounce"},
    "soft": {"processed", "bounce"},
    "suppressed": {"dropped"},
    "deferred": {"processed", "deferred", "delivered"},
    "late-bounce": {"processed", "delivered", "bounce"},
    "auto-reply": {"processed", "delivered"},  # SendGrid has no event for it
    "complained": {"processed", "delivered", "spamreport"},
    "unsubscribed": {"processed", "delivered", "unsubscribe"},
    "silent": {"processed"},
}


async def test_a_send_is_accepted_with_an_id_and_no_body(sandbox):
    answer = await sandbox.send("silent@sandbox.example")
    assert (answer.status_code, answer.content) == (202, b"")
    assert len(answer.headers["x-message-id"]) == 22


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer SG.none"}, {"Authorization": "Basic SG.one"}])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v3/mail/send"), ("GET", SETTINGS), ("PATCH", f"{SETTINGS}/signed")]
)
async def test_an_unknown_key_is_refused_in_the_shape_of_sendgrid(sandbox, method, path, headers):
    answer = await sandbox.client.request(method, path, headers=headers, json={})
    assert answer.status_code == 401
    assert answer.json()["errors"][0].keys() == {"message", "field", "help"}


async def test_a_bad_body_is_refused_with_all_that_is_wrong(sandbox):
    answer = await sandbox.client.post("/v3/mail/send", json={"subject": "x"}, headers=ONE)
    assert answer.status_code == 400
    assert [error["field"] for error in answer.json()["errors"]] == ["from", "personalizations", "content"]
    answer = await sandbox.client.post("/v3/mail/send", content=b"x", headers={**ONE, "Content-Type": "text/plain"})
    assert answer.status_code == 415


async def test_sendgrids_own_sandbox_mode_sends_nothing(sandbox):
    answer = await sandbox.send("opened@sandbox.example", mail_settings={"sandbox_mode": {"enable": True}})
    assert answer.status_code == 200
    assert await sandbox.messages("opened@sandbox.example") == []


async def test_each_outcome_posts_its_events(sandbox, receiver):
    await sandbox.configure(receiver.url)
    expected = EVENTS | {"missed": set()}
    assert expected.keys() == outcomes.OUTCOMES.keys()
    for name in outcomes.OUTCOMES:
        await sandbox.send(f"{name}+x@sandbox.example")
    await receiver.until(
        lambda: all(set(receiver.kinds(f"{name}+x@sandbox.example")) == kinds for name, kinds in expected.items())
    )

    def last(name: str, kind: str) -> dict:
        return [event for event in receiver.of(f"{name}+x@sandbox.example") if event["event"] == kind][-1]

    assert last("opened", "open")["sg_machine_open"] is False
    assert last("machine-open", "open")["sg_machine_open"] is True
    assert last("suppressed", "dropped")["reason"] == "Bounced Address"
    assert last("deferred", "deferred")["attempt"] in {"1", "2"}
    bounce = last("bounced", "bounce")
    assert (bounce["type"], bounce["status"], bounce["bounce_classification"]) == ("bounce", "5.1.1", "Invalid Address")
    assert bounce["reason"].startswith("550 5.1.1 <bounced+x@sandbox.example>")
    assert (last("soft", "bounce")["type"], last("soft", "bounce")["status"]) == ("blocked", "4.7.1")
    assert last("full", "bounce")["status"] == "5.2.2"
    assert last("late-bounce", "bounce")["timestamp"] >= last("late-bounce", "delivered")["timestamp"]


async def test_an_event_carries_what_sendgrid_says_of_it(sandbox, receiver):
    await sandbox.configure(receiver.url)
    before = int(time.time())
    answer = await sandbox.send("opened@sandbox.example", headers={"Message-ID": "<m1@practice.example>"})
    await receiver.until(lambda: "open" in receiver.kinds("opened@sandbox.example"))
    await receiver.until(lambda: "delivered" in receiver.kinds("opened@sandbox.example"))
    events = {event["event"]: event for event in receiver.of("opened@sandbox.example")}
    delivered, opened = events["delivered"], events["open"]
    assert delivered["sg_message_id"].startswith(answer.headers["x-message-id"] + ".recvd-")
    assert delivered["smtp-id"] == "<m1@practice.example>"
    assert (delivered["carepost_id"], opened["carepost_id"]) == ("m-1", "m-1")
    assert (delivered["tls"], delivered["cert_err"], delivered["response"][:3]) == (1, 0, "250")
    assert {"ip", "useragent", "sg_content_type"} <= opened.keys()
    assert before <= delivered["timestamp"] <= opened["timestamp"] <= time.time()


async def test_every_post_is_signed_over_its_raw_bytes(sandbox, receiver, verify_signature):
    public_key = await sandbox.configure(receiver.url)
    assert (await sandbox.client.get(f"{SETTINGS}/signed", headers=ONE)).json()["public_key"] == public_key
    await sandbox.send("opened@sandbox.example")
    await receiver.until(lambda: bool(receiver.posts))
    headers, body = receiver.posts[0]
    verify_signature(public_key, headers, body)
    assert body.endswith(b"]\r\n")
    with pytest.raises(InvalidSignature):
        verify_signature(public_key, headers, body.strip())


async def test_each_key_has_its_own_webhook(sandbox, receiver):
    first = await sandbox.configure(receiver.url, key="SG.one")
    second = (await sandbox.client.get(f"{SETTINGS}/signed", headers={"Authorization": "Bearer SG.two"})).json()
    assert second["public_key"] == ""
    assert first != await sandbox.configure(receiver.url, key="SG.two")


async def test_settings_are_read_back_and_checked(sandbox):
    settings = (await sandbox.client.get(SETTINGS, headers=ONE)).json()
    assert (settings["enabled"], settings["url"], settings["spam_report"]) == (False, "", True)
    for wrong in ({"enabled": True}, {"enabled": 1}, {"url": "ftp://x"}, {"open": "yes"}, []):
        assert (await sandbox.client.patch(SETTINGS, json=wrong, headers=ONE)).status_code == 400
    wish = {"url": "http://127.0.0.1:1/x", "enabled": True, "open": False}
    changed = (await sandbox.client.patch(f"{SETTINGS}/{settings['id']}", json=wish, headers=ONE)).json()
    assert (changed["enabled"], changed["open"], changed["delivered"]) == (True, False, True)
    assert (await sandbox.client.get(f"{SETTINGS}/other", headers=ONE)).status_code == 404
    assert (await sandbox.client.patch(f"{SETTINGS}/signed", json={}, headers=ONE)).status_code == 400


async def test_no_opens_where_tracking_is_off_or_not_selected(sandbox, receiver):
    await sandbox.configure(receiver.url)
    await sandbox.send("opened+off@sandbox.example", tracking_settings={"open_tracking": {"enable": False}})
    assert [event["event"] for event in (await sandbox.messages("opened+off@sandbox.example"))[0]["events"]] == [
        "processed",
        "delivered",
    ]
    await sandbox.client.patch(SETTINGS, json={"processed": False}, headers=ONE)
    await sandbox.send("delivered@sandbox.example")
    await receiver.until(lambda: "delivered" in receiver.kinds("delivered@sandbox.example"))
    assert receiver.kinds("delivered@sandbox.example") == {"delivered": 1}


async def test_posts_come_batched_twice_and_out_of_order_but_their_times_are_true(sandbox, receiver):
    await sandbox.configure(receiver.url)
    count = 60
    for number in range(count):
        await sandbox.send(f"opened+{number}@sandbox.example")
    await receiver.until(
        lambda: all(len(receiver.of(f"opened+{number}@sandbox.example")) == 3 for number in range(count))
    )
    ids = [event["sg_event_id"] for event in receiver.events]
    assert len(ids) > len(set(ids)) == 3 * count
    assert any(len(json.loads(body)) > 1 for _, body in receiver.posts)
    orders = [[event["event"] for event in receiver.of(f"opened+{n}@sandbox.example")] for n in range(count)]
    assert ["processed", "open", "delivered"] in orders
    for events in receiver.by_message().values():
        at = {event["event"]: event["timestamp"] for event in events}
        assert at["processed"] <= at["delivered"] <= at["open"]


async def test_a_refused_post_comes_again_with_the_same_bytes_and_is_signed_anew(sandbox, receiver, verify_signature):
    public_key = await sandbox.configure(receiver.url)
    receiver.answers = [503, 500, 302]
    await sandbox.send("silent@sandbox.example")
    await receiver.until(lambda: len(receiver.posts) >= 4)
    assert len({body for _, body in receiver.posts}) == 1
    for headers, body in receiver.posts:
        verify_signature(public_key, headers, body)

    async with asyncio.timeout(5):  # the receiver has it before the sandbox has its answer
        while [p["status"] for p in (await sandbox.messages("silent@sandbox.example"))[0]["events"][0]["posts"]][
            :4
        ] != [
            503,
            500,
            302,
            200,
        ]:
            pass


async def test_posts_follow_when_the_webhook_moves(sandbox, receiver):
    await sandbox.configure("http://127.0.0.1:9/gone")
    await sandbox.send("silent@sandbox.example")
    async with asyncio.timeout(5):
        while not (await sandbox.messages("silent@sandbox.example"))[0]["events"][0]["posts"]:
            pass
    await sandbox.configure(receiver.url)
    await receiver.until(lambda: receiver.kinds("silent@sandbox.example") == {"processed": 1})
    assert (await sandbox.messages("silent@sandbox.example"))[0]["events"][0]["posts"][0]["error"] == "ConnectError"


async def test_keys_and_urls_outlive_a_restart(start_esp, receiver, tmp_path):
    options = {"key_file": tmp_path / "keys" / "esp.json", "webhook_urls": (receiver.url,)}
    public_keys = []
    for _ in range(2):
        async with start_esp(**options) as sandbox:
            public_keys.append((await sandbox.client.get(f"{SETTINGS}/signed", headers=ONE)).json()["public_key"])
            settings = (await sandbox.client.get(SETTINGS, headers=ONE)).json()
            assert (settings["url"], settings["enabled"]) == (receiver.url, True)
    assert public_keys[0] == public_keys[1] != ""
    assert stat.S_IMODE(options["key_file"].stat().st_mode) == 0o600
    assert "SG.one" not in options["key_file"].read_text()


async def test_faults_answer_the_next_sends(sandbox):
    await sandbox.client.post("/_faults", json={"send_status": 503, "times": 2, "retry_after": 1})
    answers = [await sandbox.send("silent@sandbox.example") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 202]
    assert answers[0].headers["retry-after"] == "1"
    await sandbox.client.post("/_faults", json={"send_status": 429})
    await sandbox.client.delete("/_faults")
    assert (await sandbox.send("silent@sandbox.example")).status_code == 202
    for wrong in ({"send_status": 200}, {"times": 0}, {"what": 1}, {"drop_after_accept": 1}, {"vendor": "x"}, []):
        assert (await sandbox.client.post("/_faults", json=wrong)).status_code == 400


async def test_a_fault_may_be_for_one_vendor_alone(sandbox):
    await sandbox.client.post("/_faults", json={"send_status": 503, "vendor": "postmark"})
    assert (await sandbox.send("silent@sandbox.example")).status_code == 202


async def test_lost_webhooks_are_of_events_that_happened(sandbox, receiver):
    await sandbox.configure(receiver.url)
    await sandbox.client.post("/_faults", json={"lose_webhooks": True})
    await sandbox.send("delivered+lost@sandbox.example")
    await sandbox.send("delivered@sandbox.example")
    await receiver.until(lambda: receiver.kinds("delivered@sandbox.example")["delivered"] == 1)
    assert receiver.of("delivered+lost@sandbox.example") == []
    [lost] = await sandbox.messages("delivered+lost@sandbox.example")
    assert [event["event"] for event in lost["events"]] == ["processed", "delivered"]


async def test_a_dropped_send_was_accepted_and_has_no_answer(sandbox):
    await sandbox.client.post("/_faults", json={"drop_after_accept": True})
    with pytest.raises(httpx2.TransportError):
        await sandbox.send("silent@sandbox.example")
    assert len(await sandbox.messages("silent@sandbox.example")) == 1


async def test_a_held_send_is_answered_late(sandbox):
    await sandbox.client.post("/_faults", json={"hold_ms": 60_000})
    with pytest.raises(httpx2.ReadTimeout):
        await sandbox.client.post("/v3/mail/send", json={}, headers=ONE, timeout=0.1)


async def test_the_page_lists_what_was_accepted(sandbox):
    await sandbox.send("silent@sandbox.example")
    page = await sandbox.client.get("/")
    assert "1 accepted" in page.text
    assert "sendgrid    silent@sandbox.example  silent: processed (not posted)" in page.text
