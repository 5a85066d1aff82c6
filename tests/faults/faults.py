"""Faults: what is done to the house at one point in time, and undone again. One function for each kind."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Mapping

import redis.asyncio

from tests.faults.house import LEASE, House
from tests.faults.proxy import Link

Fault = Callable[[House, random.Random], Awaitable[None]]
CLOCK = "clock set"
"""The processes need clocks of their own for it."""
_LINKS = ("postgres-api", "postgres-worker", "valkey-api", "valkey-worker", "esp", "smtp", "hooks", "front")


async def worker_killed(house: House, rng: random.Random) -> None:
    victim = rng.choice(house.workers)
    victim.kill()
    await asyncio.sleep(rng.uniform(0.1, 1.5))
    victim.start()


async def api_killed(house: House, rng: random.Random) -> None:
    victim = rng.choice(house.apis)
    victim.kill()
    await asyncio.sleep(rng.uniform(0.1, 1.5))
    victim.start()


async def everybody_killed(house: House, rng: random.Random) -> None:
    for victim in house.processes:
        victim.kill()
    await asyncio.sleep(rng.uniform(0.1, 1))
    for victim in house.processes:
        victim.start()


async def worker_frozen(house: House, rng: random.Random) -> None:
    """Past its lease, and woken again."""
    victim = rng.choice(house.workers)
    victim.tell(signal.SIGSTOP)
    await asyncio.sleep(LEASE + rng.uniform(0.2, 2))
    victim.tell(signal.SIGCONT)


async def api_frozen(house: House, rng: random.Random) -> None:
    victim = rng.choice(house.apis)
    victim.tell(signal.SIGSTOP)
    await asyncio.sleep(rng.uniform(0.5, 3))
    victim.tell(signal.SIGCONT)


async def clock_set(house: House, rng: random.Random) -> None:
    """A process's wall clock jumps, by an hour or by more than the 48 hours for which a message is tried, forward or
    back, and after a while back again."""
    victim = rng.choice(house.processes)
    victim.set_clock(rng.choice((-1, 1)) * rng.choice((3600, 180_000)))
    await asyncio.sleep(rng.uniform(0.5, 3))
    victim.set_clock(0)


async def postgres_crashed(house: House, rng: random.Random) -> None:
    """Immediate shutdown: no checkpoint, every connection dropped; it recovers from its log."""
    await house.order("postgres crash")
    await asyncio.sleep(rng.uniform(0, 2))
    await house.order("postgres start")


async def valkey_stopped(house: House, rng: random.Random) -> None:
    """Longer than several rounds of the sweeper, which are minutes at its usual pace."""
    await house.order("valkey stop")
    await asyncio.sleep(rng.uniform(1, 5))
    await house.order("valkey start")


async def valkey_flushed(house: House, rng: random.Random) -> None:
    client = redis.asyncio.Redis(host="127.0.0.1", port=house.servers.valkey_port)
    for _ in range(5):
        await client.flushall()
        await asyncio.sleep(rng.uniform(0.05, 0.3))
    await client.aclose()


async def link_cut(house: House, rng: random.Random) -> None:
    for _ in range(3):
        house.links[rng.choice(_LINKS)].cut()
        await asyncio.sleep(rng.uniform(0.05, 0.4))


async def link_refusing(house: House, rng: random.Random) -> None:
    await _for_a_while(house, rng, Link.REFUSING, 3)


async def link_silent(house: House, rng: random.Random) -> None:
    await _for_a_while(house, rng, Link.SILENT, 6)


async def link_slow(house: House, rng: random.Random) -> None:
    await _for_a_while(house, rng, Link.SLOW, 3)


async def link_half_open(house: House, rng: random.Random) -> None:
    """What stands is lost and the client isn't told; what is opened anew passes."""
    house.links[rng.choice(_LINKS)].lose()
    await asyncio.sleep(rng.uniform(0.1, 0.5))


async def _for_a_while(house: House, rng: random.Random, link: Link, longest: float) -> None:
    name = rng.choice(_LINKS)
    await house.links[name].set(link)
    await asyncio.sleep(rng.uniform(0.3, longest))
    await house.links[name].set(Link.OPEN)


FAULTS: Mapping[str, Fault] = {
    "worker killed": worker_killed,
    "api killed": api_killed,
    "everybody killed": everybody_killed,
    "worker frozen past its lease": worker_frozen,
    "api frozen": api_frozen,
    CLOCK: clock_set,
    "postgres crashed": postgres_crashed,
    "valkey stopped": valkey_stopped,
    "valkey flushed": valkey_flushed,
    "link cut": link_cut,
    "link refusing": link_refusing,
    "link silent": link_silent,
    "link slow": link_slow,
    "link half-open": link_half_open,
}
ESSENTIAL = ("worker killed", "api killed", "postgres crashed", "link cut", "valkey flushed")
"""Of each one in the short form."""
