"""Soak: an hour's worth of a busy practice group, for minutes: `make soak` (10 minutes), `MINUTES=1 make soak`.

50 sends and 200 webhook POSTs a second, 1,000 subscribers, and a fault now and then. Counts balance at the end, memory
of each process is sampled, and a table, `soak.json` and a picture of the memory are written to docs/images.
"""

import asyncio
import json
import os
import random
import secrets
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from rich.console import Console
from rich.table import Table

from carepost.sandbox.vendors.sendgrid.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, SigningKey
from tests.faults import faults, house, servers
from tests.faults.house import House
from tests.faults.load import Sends, Watcher, read_list
from tests.faults.picture import draw
from tests.support.stack import until

SENDS = int(os.environ.get("SENDS", "50"))
POSTS = int(os.environ.get("POSTS", "200"))
SUBSCRIBERS = int(os.environ.get("SUBSCRIBERS", "1000"))
Memory = dict[str, list[tuple[float, float]]]
"""MiB at minutes, by process."""
SPRINKLED = ("worker killed", "api killed", "link cut", "valkey flushed", "postgres crashed", "link half-open")
_OUT = Path("docs/images")


@dataclass(slots=True)
class Posts:
    """An ESP that posts one event at a time at a rate, each again until it is answered 2xx."""

    house: House
    key: SigningKey
    messages: list[str] = field(default_factory=list)
    stored: int = 0
    again: int = 0
    seconds: list[float] = field(default_factory=list)

    async def post(self, http: httpx2.AsyncClient, number: int) -> None:
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
        stamp = str(int(time.time()))
        headers = {TIMESTAMP_HEADER: stamp, SIGNATURE_HEADER: self.key.sign(stamp, body)}
        while True:
            began = time.perf_counter()
            try:
                if (await http.post(self.house.hook, content=body, headers=headers)).status_code == 200:
                    self.seconds.append(time.perf_counter() - began)
                    self.stored += 1
                    return
            except httpx2.HTTPError:
                pass
            self.again += 1
            await asyncio.sleep(0.5)

    async def keep_posting(self, stop: asyncio.Event) -> None:
        number, due = 0, time.monotonic()
        limits = httpx2.Limits(max_connections=200)
        async with httpx2.AsyncClient(timeout=10, trust_env=False, limits=limits) as http, asyncio.TaskGroup() as group:
            while not stop.is_set():
                group.create_task(self.post(http, number))
                number += 1
                due += 1 / POSTS
                await asyncio.sleep(max(0.0, due - time.monotonic()))


async def main() -> None:
    minutes = float(os.environ.get("MINUTES", "10"))
    seed = os.environ.get("CAREPOST_FAULT_SEED") or secrets.token_hex(4)
    print(f"CAREPOST_FAULT_SEED={seed} MINUTES={minutes:g}", flush=True)
    rng = random.Random(seed)
    with servers.running() as own:
        async with house.furnished(own, seed=seed) as home:
            found, memory = await _soak(home, rng, minutes * 60)
    found = {"seed": seed, "minutes": minutes, "load": os.getloadavg()[0], **found}
    _OUT.mkdir(parents=True, exist_ok=True)
    (_OUT / "soak.json").write_text(json.dumps(found, indent=1) + "\n")
    (_OUT / "soak.svg").write_text(draw("Memory of each process, MiB", memory, "minutes"))
    table = Table("", "", title="Soak")
    for name, value in found.items():
        table.add_row(name, str(value))
    Console().print(table)
    assert not found["lost"], found
    assert not found["wrong_views"], found


async def _soak(home: House, rng: random.Random, seconds: float) -> tuple[dict[str, Any], Memory]:
    sends, stop, done = Sends(home, rng), asyncio.Event(), asyncio.Event()
    await sends.prepare()
    key = SigningKey.generate()
    rotated = await home.client(
        "mutation ($input: RotateWebhookSecretInput!) { rotateWebhookSecret(input: $input) { errors { message } } }",
        input={"accountId": home.accounts["ESP"], "secret": key.public_key},
    )
    assert rotated["rotateWebhookSecret"]["errors"] == []
    for _ in range(50):
        await sends.send()
    posts = Posts(
        home, key, [str(row["id"]) for row in await home.ask("SELECT id FROM message WHERE account_kind = 'esp'")]
    )
    # Each of them watches one message but ten, who watch all: as pages do, and so that 1,000 fit on two cores.
    ids = list(sends.taken.values())
    watchers = [Watcher(home, only=None if number < 10 else ids[number % len(ids)]) for number in range(SUBSCRIBERS)]
    watching = [asyncio.create_task(watcher.watch(done)) for watcher in watchers]
    memory: Memory = defaultdict(list)
    began = time.monotonic()
    injected: dict[str, int] = defaultdict(int)
    tasks = [
        asyncio.create_task(sends.keep_sending(stop, SENDS)),
        asyncio.create_task(posts.keep_posting(stop)),
    ]
    next_fault = began + 20
    while time.monotonic() - began < seconds:
        for process in home.processes:
            if process.is_running:
                memory[process.name].append(((time.monotonic() - began) / 60, _resident(process.pid)))
        await asyncio.sleep(2)
        if time.monotonic() > next_fault and time.monotonic() - began < seconds - 15:
            kind = rng.choice(SPRINKLED)
            injected[kind] += 1
            await faults.FAULTS[kind](home, rng)
            next_fault = time.monotonic() + rng.uniform(15, 30)
    stop.set()
    print(f"told to stop: {len(sends.taken)} sends, {posts.stored} webhooks, {posts.again} again", flush=True)
    await asyncio.gather(*tasks)
    print("everything was acknowledged; waiting for the books to balance", flush=True)
    settled = time.monotonic()
    lost = await _settle(home, sends, posts)
    truth, _ = await read_list(home)

    async def views_are_right() -> bool:
        return not any(_wrong(watcher, truth) for watcher in watchers)

    try:
        await until(views_are_right, 60)
        wrong = 0
    except TimeoutError:
        wrong = sum(_wrong(watcher, truth) for watcher in watchers)
    settle_seconds = time.monotonic() - settled
    done.set()
    await asyncio.gather(*watching, return_exceptions=True)
    figures = {
        "faults": dict(injected),
        "sends acknowledged": len(sends.taken),
        "sends tried again": sum(sends.codes.values()),
        "send p50, p99 ms": _percentiles(sends.seconds),
        "webhooks answered 2xx": posts.stored,
        "webhooks posted again": posts.again,
        "webhook p50, p99 ms": _percentiles(posts.seconds),
        "subscribers": len(watchers),
        "changes told": sum(watcher.told for watcher in watchers),
        "connections": sum(watcher.connections for watcher in watchers),
        "settled in s": round(settle_seconds, 1),
        "lost": lost,
        "wrong_views": wrong,
        "MiB, after a minute and at the end": {name: _grown(samples) for name, samples in memory.items()},
    }
    return figures, memory


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


def _wrong(watcher: Watcher, truth: dict[str, str]) -> bool:
    wanted = truth if watcher.only is None else {watcher.only: truth[watcher.only]}
    return any(watcher.statuses.get(key) != status for key, status in wanted.items())


def _resident(pid: int) -> float:
    """MiB, from /proc/PID/statm; 0 when it has just ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _percentiles(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    if not ordered:
        return "-"
    return f"{ordered[len(ordered) // 2] * 1000:.0f}, {ordered[int(len(ordered) * 0.99)] * 1000:.0f}"


def _grown(samples: list[tuple[float, float]]) -> str:
    later = next((value for minute, value in samples if minute >= 1), samples[0][1])
    return f"{later:.0f}, {samples[-1][1]:.0f}"


if __name__ == "__main__":
    asyncio.run(main())
