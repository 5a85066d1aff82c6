"""Soak: an hour's worth of a busy practice group, for minutes: `make soak` (10 minutes), `MINUTES=1 make soak`.

50 sends and 200 webhook POSTs a second, 1,000 subscribers, and a fault now and then. Counts balance at the end, memory
and processor time of each process are sampled, and a table, `soak.json` and a picture of the memory are written to
docs/images. It ends with 1 when anything doesn't balance.
"""

import asyncio
import json
import os
import random
import secrets
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from carepost.sandbox.vendors.sendgrid.signing import SigningKey
from tests.faults import crowd, faults, house, servers
from tests.faults.crowd import Crowd, Watching
from tests.faults.house import House
from tests.faults.load import Sends
from tests.faults.picture import draw
from tests.faults.poster import FAILED, Poster
from tests.faults.samples import Samples, percentiles
from tests.support.stack import until

SENDS = int(os.environ.get("SENDS", "50"))
POSTS = int(os.environ.get("POSTS", "200"))
SUBSCRIBERS = int(os.environ.get("SUBSCRIBERS", "1000"))
_WATCHED = 500
"""Messages that are there at the start: events are posted for them, and each subscriber watches one."""
_OF_ALL = 4
"""Subscribers more who watch all messages."""
SPRINKLED = ("worker killed", "api killed", "link cut", "valkey flushed", "postgres crashed", "link half-open")
_OUT = Path("docs/images")


@dataclass(slots=True)
class Posts:
    """An ESP that posts one event at a time at a rate, each again until it is answered 2xx."""

    house: House
    key: SigningKey
    messages: list[str] = field(default_factory=list)
    stored: int = 0
    again: Counter[str] = field(default_factory=Counter)
    """Why posts had to come again: the status of the answer, or the name of an exception."""
    seconds: list[float] = field(default_factory=list)

    async def post(self, poster: Poster, number: int) -> None:
        event = {
            "event": "deferred",
            "email": "pat@sandbox.example",
            "timestamp": 1_767_225_600 + number,
            "sg_message_id": f"soak-{number}.0",
            "sg_event_id": f"soak-{number}",
            "carepost_message_id": self.messages[number % len(self.messages)],
            "response": "451 4.7.1 try again",
            "attempt": "1",
        }
        body = json.dumps([event]).encode()
        while True:
            began = time.perf_counter()
            try:
                status = await poster.post(body)
                if status == 200:
                    self.seconds.append(time.perf_counter() - began)
                    self.stored += 1
                    return
                self.again[str(status)] += 1
            except FAILED as error:
                self.again[type(error).__name__] += 1
            await asyncio.sleep(0.5)

    async def keep_posting(self, stop: asyncio.Event) -> None:
        number, due = 0, time.monotonic()
        poster = Poster(self.house.hook, self.key)
        async with asyncio.TaskGroup() as group:
            while not stop.is_set():
                group.create_task(self.post(poster, number))
                number += 1
                due += 1 / POSTS
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        await poster.close()


async def main() -> None:
    minutes = float(os.environ.get("MINUTES", "10"))
    seed = os.environ.get("CAREPOST_FAULT_SEED") or secrets.token_hex(4)
    print(f"CAREPOST_FAULT_SEED={seed} MINUTES={minutes:g}", flush=True)
    rng = random.Random(seed)
    samples = Samples()
    with servers.running() as own:
        async with house.furnished(own, seed=seed) as home:
            found = await _soak(home, rng, minutes * 60, samples)
    rates = {"sends a second": SENDS, "POSTs a second": POSTS}
    found = {"seed": seed, "minutes": minutes, **rates, "load": round(os.getloadavg()[0], 1), **found}
    _OUT.mkdir(parents=True, exist_ok=True)
    (_OUT / "soak.json").write_text(json.dumps(found, indent=1) + "\n")
    (_OUT / "soak.svg").write_text(draw("Memory of each process, MiB", samples.memory, "minutes"))
    table = Table("", "", title="Soak")
    for name, value in found.items():
        table.add_row(name, str(value))
    Console().print(table)
    wrong = {name: found[name] for name in ("out of balance", "wrong views") if found[name]}
    if wrong:
        sys.exit(f"the soak doesn't balance: {wrong}")


async def _soak(home: House, rng: random.Random, seconds: float, samples: Samples) -> dict[str, Any]:
    sends, stop = Sends(home, rng), asyncio.Event()
    await sends.prepare()
    key = SigningKey.generate()
    rotated = await home.client(
        "mutation ($input: RotateWebhookSecretInput!) { rotateWebhookSecret(input: $input) { errors { message } } }",
        input={"accountId": home.accounts["ESP"], "secret": key.public_key},
    )
    assert rotated["rotateWebhookSecret"]["errors"] == []
    await _send_some(sends, _WATCHED)
    posts = Posts(
        home, key, [str(row["id"]) for row in await home.ask("SELECT id FROM message WHERE account_kind = 'esp'")]
    )
    ids = list(sends.taken.values())
    watched = [ids[number % len(ids)] for number in range(SUBSCRIBERS - _OF_ALL)]
    tokens = [house.token_of(home.practice, f"somebody {number}") for number in range(SUBSCRIBERS)]
    async with crowd.watching(Crowd(home.url, tokens, watched, _OF_ALL, patience=60)) as people:
        print(f"{len(sends.taken)} messages, {SUBSCRIBERS} subscribers; the load begins", flush=True)
        tasks = [
            asyncio.create_task(sends.keep_sending(stop, SENDS)),
            asyncio.create_task(posts.keep_posting(stop)),
        ]
        injected = await _run(home, rng, seconds, samples, people)
        stop.set()
        again = posts.again.total()
        print(f"told to stop: {len(sends.taken)} sends, {posts.stored} webhooks, {again} again", flush=True)
        await asyncio.gather(*tasks)
        print("everything was acknowledged; waiting for the books to balance", flush=True)
        settled = time.monotonic()
        problems = await _settle(home, sends, posts)
        seen = await people.compare()
        settle_seconds = time.monotonic() - settled
    doubtful = (await home.ask("SELECT count(*) FROM message WHERE ambiguous"))[0][0]
    return {
        "faults": dict(injected),
        "sends acknowledged": len(sends.taken),
        "sends tried again": dict(sends.codes),
        "send p50, p99 ms": percentiles(sends.seconds),
        "webhooks answered 2xx": posts.stored,
        "webhooks posted again": dict(posts.again),
        "webhook p50, p99 ms": percentiles(posts.seconds),
        "emails that may have gone out twice, said so": doubtful,
        "subscribers": SUBSCRIBERS,
        "changes told": seen.told,
        "connections": seen.connections,
        "settled in s": round(settle_seconds, 1),
        "out of balance": problems,
        "wrong views": seen.wrong,
        "MiB, after a minute and at the end": samples.growth(),
        "cores used": samples.cores(),
    }


async def _send_some(sends: Sends, count: int) -> None:
    at_once = asyncio.Semaphore(16)

    async def one() -> None:
        async with at_once:
            await sends.send()

    await asyncio.gather(*(one() for _ in range(count)))


async def _run(home: House, rng: random.Random, seconds: float, samples: Samples, people: Watching) -> Counter[str]:
    """Samples, and breaks something every 15 to 30 s; gives how often what was broken."""
    injected: Counter[str] = Counter()
    began = time.monotonic()
    next_fault = began + 20
    while (past := time.monotonic() - began) < seconds:
        samples.take(past, {process.name: process.pid for process in home.processes if process.is_running})
        samples.take_clients(past, {"load": os.getpid(), "subscribers": people.pid})
        await asyncio.sleep(2)
        if time.monotonic() > next_fault and past < seconds - 15:
            kind = rng.choice(SPRINKLED)
            injected[kind] += 1
            await faults.FAULTS[kind](home, rng)
            next_fault = time.monotonic() + rng.uniform(15, 30)
    return injected


async def _settle(home: House, sends: Sends, posts: Posts) -> list[str]:
    """What is missing once nothing moves any more: messages not sent, events not applied exactly once."""
    problems: list[str] = []

    async def all_done() -> bool:
        problems.clear()
        queued = (await home.ask("SELECT count(*) FROM message WHERE verdict = 'queued'"))[0][0]
        pending = (await home.ask("SELECT count(*) FROM webhook_delivery WHERE state <> 'applied'"))[0][0]
        stored = (await home.ask("SELECT count(*) FROM message"))[0][0]
        applied = (
            await home.ask(
                "SELECT count(*) FROM message_event WHERE source = 'webhook' AND kind = 'deferred' "
                "AND occurred_at < '2026-11-01'"
            )
        )[0][0]
        for name, count in (
            ("queued", queued),
            ("webhooks pending", pending),
            ("messages missing", len(sends.taken) - stored),
            ("events missing", posts.stored - applied),
        ):
            if count:
                problems.append(f"{count} {name}")
        if problems and time.monotonic() - said[0] > 10:
            said[0] = time.monotonic()
            print(f"still {', '.join(problems)}", flush=True)
        await asyncio.sleep(0.25)
        return not problems

    said = [time.monotonic()]
    try:
        await until(all_done, 180)
    except TimeoutError:
        return problems
    return []


if __name__ == "__main__":
    uvloop.run(main())
