"""The counts: many messages and many events through several workers, while one after another is killed.

`make faults` takes the full numbers, `make test` a fraction.
"""

import asyncio
import json
import os
import random
import time
from datetime import UTC, datetime

from carepost.sandbox.vendors.sendgrid.signing import SigningKey
from tests.faults import books, house
from tests.faults.house import House
from tests.faults.load import Sends
from tests.faults.poster import Poster
from tests.faults.report import note
from tests.faults.servers import Servers
from tests.support.stack import until

LONG = "CAREPOST_FAULT_POINTS" in os.environ
MESSAGES = 4_000 if LONG else 80
EVENTS = 200_000 if LONG else 2_000
_A_POST = 10
SEND = """mutation ($input: SendMessageInput!) {
  sendMessage(input: $input) { message { id } errors { message } }
}"""


async def kill_now_and_then(home: House, stop: asyncio.Event, pause: tuple[float, float]) -> int:
    """Kills one worker after another, each started again at once; gives how many."""
    killed = 0
    rng = random.Random(7)
    while not stop.is_set():
        await asyncio.sleep(rng.uniform(*pause))
        if stop.is_set():
            break
        victim = rng.choice(home.workers)
        victim.kill()
        victim.start()
        killed += 1
    return killed


async def test_messages_through_four_workers_with_random_kills_go_out_once_each(durable_servers: Servers) -> None:
    async with house.furnished(durable_servers, apis=1, workers=4) as home:
        sends, stop = Sends(home, random.Random(3)), asyncio.Event()
        await sends.prepare()
        began = time.monotonic()
        killing = asyncio.create_task(kill_now_and_then(home, stop, (0.5, 2.0)))
        at_once = asyncio.Semaphore(16)

        async def one() -> None:
            async with at_once:
                await sends.send(smtp_share=0.5)

        await asyncio.gather(*(one() for _ in range(MESSAGES)))
        stop.set()
        killed = await killing
        found = await books.balance(home, sends, [], within=600)
        assert found.acknowledged == MESSAGES
        assert killed > 0
        note(
            count="messages",
            messages=MESSAGES,
            killed=killed,
            sent_twice=found.sent_twice,
            ambiguous=found.ambiguous,
            events=found.posted,
            seconds=round(time.monotonic() - began),
        )


async def test_fifty_calls_at_once_with_one_key_make_one_message_and_a_backlog_is_drained_once(
    durable_servers: Servers,
) -> None:
    async with house.furnished(durable_servers, apis=2, workers=4) as home:
        sends = Sends(home, random.Random(5))
        await sends.prepare()
        wish = {
            "patientId": sends.patients["silent"],
            "subject": "Once",
            "text": "Please call us.",
            "idempotencyKey": "k",
        }
        answers = await asyncio.gather(*(home.client(SEND, input=wish) for _ in range(50)))
        assert len({answer["sendMessage"]["message"]["id"] for answer in answers}) == 1
        sends.taken["Once"] = answers[0]["sendMessage"]["message"]["id"]
        for _ in range(19):
            await sends.send(smtp_share=0)
        await books.balance(home, sends, [])

        # The backlog: events of these twenty messages, each of its own second, stored while no worker runs.
        for worker in home.workers:
            worker.kill()
        key = SigningKey.generate()
        change = {"accountId": home.accounts["ESP"], "webhookSecret": key.public_key}
        ids = [row["id"] for row in await home.ask("SELECT id FROM message ORDER BY id")]
        before = (await home.ask("SELECT count(*) FROM message_event"))[0][0]
        await _take_secret(home, change)
        posts = [_post(ids, number) for number in range(0, EVENTS, _A_POST)]
        stored = 0
        at_once = asyncio.Semaphore(24)

        poster = Poster(home.hook, key)

        async def post(body: bytes) -> None:
            nonlocal stored
            async with at_once:
                while await poster.post(body) != 200:
                    await asyncio.sleep(0.1)
            stored += 1

        await asyncio.gather(*(post(body) for body in posts))
        await poster.close()
        assert stored == EVENTS // _A_POST
        began, stop = time.monotonic(), asyncio.Event()
        for worker in home.workers:
            # The usual one: nothing is sent here, and a busy machine's batches are not to be cut short by it.
            worker.environment["CAREPOST_LEASE_SECONDS"] = "90"
            worker.start()
        killing = asyncio.create_task(kill_now_and_then(home, stop, (2.0, 4.0) if LONG else (0.4, 1.0)))

        async def drained() -> bool:
            left = await home.ask("SELECT count(*) FROM webhook_delivery WHERE state = 'pending'")
            return left[0][0] == 0

        await until(drained, 900)
        seconds = time.monotonic() - began
        stop.set()
        killed = await killing
        rows = await home.ask("SELECT count(*) AS events, count(DISTINCT dedupe_key) AS keys FROM message_event")
        assert rows[0]["events"] - before == EVENTS
        sums = await home.ask("SELECT count(*) FROM webhook_delivery WHERE state <> 'applied' OR error IS NOT NULL")
        assert sums[0][0] == 0
        assert (await home.ask("SELECT count(*) FROM parked_event"))[0][0] == 0
        note(count="events", events=EVENTS, posts=len(posts), killed=killed, seconds=round(seconds, 1))


async def _take_secret(home: House, change: dict[str, str]) -> None:
    """Gives the account a secret whose private half is ours."""
    answer = await home.client.raw(
        "mutation ($input: RotateWebhookSecretInput!) { rotateWebhookSecret(input: $input) { errors { message } } }",
        input={"accountId": change["accountId"], "secret": change["webhookSecret"]},
    )
    assert answer.get("data", {}).get("rotateWebhookSecret", {}).get("errors") == [], answer
    await asyncio.sleep(5.5)  # the other API process remembers the old one for so long


def _post(ids: list[object], first: int) -> bytes:
    """Ten events as SendGrid posts them."""
    start = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
    return json.dumps(
        [
            {
                "event": "deferred",
                "email": "pat@sandbox.example",
                "timestamp": start + number,
                "sg_message_id": f"backlog-{number}.0",
                "sg_event_id": f"backlog-{number}",
                "carepost_message_id": str(ids[number % len(ids)]),
                "response": "451 4.7.1 try again",
                "attempt": "1",
            }
            for number in range(first, first + _A_POST)
        ]
    ).encode()
