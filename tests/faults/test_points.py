"""Random points: something breaks in the middle of everything, and afterwards the books balance.

CAREPOST_FAULT_POINTS (`make faults`: 20) says how often each kind strikes; without it every kind of `ESSENTIAL` strikes
once. CAREPOST_FAULT_SEED repeats a run.
"""

import asyncio
import os
import random
import secrets
from collections.abc import Sequence
from dataclasses import asdict

import pytest

from tests.faults import books, house
from tests.faults.faults import CLOCK, ESSENTIAL, FAULTS
from tests.faults.load import Sends, Watcher
from tests.faults.process import PATIENCE
from tests.faults.report import note
from tests.faults.servers import Servers

_POINTS = int(os.environ.get("CAREPOST_FAULT_POINTS", "0"))
_RUNS = [(name,) * _POINTS for name in FAULTS] if _POINTS else [ESSENTIAL]


@pytest.mark.parametrize("kinds", _RUNS, ids=[kinds[0] if _POINTS else "short" for kinds in _RUNS])
async def test_whatever_breaks_the_books_balance(durable_servers: Servers, kinds: Sequence[str]) -> None:
    seed = os.environ.get("CAREPOST_FAULT_SEED") or secrets.token_hex(4)
    print(f"CAREPOST_FAULT_SEED={seed} {', '.join(dict.fromkeys(kinds))}", flush=True)
    rng = random.Random(seed)
    clocks = {f"{name}-{number}": 0.0 for name in ("api", "worker") for number in (1, 2)} if CLOCK in kinds else None
    async with house.furnished(durable_servers, seed=seed, clocks=clocks) as home:
        sends, stop, done = Sends(home, rng), asyncio.Event(), asyncio.Event()
        await sends.prepare()
        watchers = [Watcher(home) for _ in range(4)]
        watching = [asyncio.create_task(watcher.watch(done)) for watcher in watchers]
        sending = asyncio.create_task(sends.keep_sending(stop, 12))
        try:
            for kind in rng.sample(kinds, len(kinds)):
                await asyncio.sleep(rng.uniform(0.2, 1.2))
                await FAULTS[kind](home, rng)
            stop.set()
            await asyncio.wait_for(sending, PATIENCE)
            found = await books.balance(home, sends, watchers)
        finally:
            done.set()
            sending.cancel()
            await asyncio.gather(sending, *watching, return_exceptions=True)
        note(
            fault=" + ".join(dict.fromkeys(kinds)),
            points=len(kinds),
            seed=seed,
            **asdict(found),
            not_taken=dict(sends.codes),
            connections=sum(watcher.connections for watcher in watchers),
            told=sum(watcher.told for watcher in watchers),
            reread=sum(watcher.reread for watcher in watchers),
        )
        assert all(process.is_running for process in home.processes)
