"""Crowd: those who watch, in a process of their own, so that what they cost isn't their neighbours' latency.

    python -m tests.faults.crowd

reads one `Crowd` as JSON from stdin, says `ready` once everybody is connected, and after another line reads the list
and waits until each sees it so; then it prints one `Seen`.
"""

import asyncio
import contextlib
import dataclasses
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import httpx2
import uvloop

from tests.faults.load import Watcher, read_list
from tests.support.stack import GraphQLClient, until

_CONNECT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """`messages` are the global ids of which each is watched by one, in turn; `of_all` more watch all messages. Each
    has a token of their own. They have `patience` seconds to see what the list shows."""

    url: str
    tokens: Sequence[str]
    messages: Sequence[str]
    of_all: int
    patience: float


@dataclass(frozen=True, slots=True)
class Seen:
    """`wrong` of them don't see what the list shows."""

    wrong: int
    told: int
    connections: int
    reread: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Door:
    """What a watcher needs to know of a house."""

    url: str
    client: GraphQLClient


async def watch(crowd: Crowd) -> None:
    """Watches until told to compare."""
    limits = httpx2.Limits(max_connections=20)
    async with httpx2.AsyncClient(base_url=crowd.url, timeout=60, trust_env=False, limits=limits) as http:
        doors = [_Door(crowd.url, GraphQLClient(http, token)) for token in crowd.tokens]
        watched = [*crowd.messages, *[None] * crowd.of_all]
        watchers = [Watcher(door, only=message) for door, message in zip(doors, watched, strict=True)]
        done = asyncio.Event()
        watching = [asyncio.create_task(watcher.watch(done)) for watcher in watchers]
        await until(lambda: _true(all(watcher.connections for watcher in watchers)), _CONNECT_SECONDS)
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        began = asyncio.get_running_loop().time()
        truth, _ = await read_list(doors[0])
        with contextlib.suppress(TimeoutError):
            await until(lambda: _true(not any(_is_wrong(watcher, truth) for watcher in watchers)), crowd.patience)
        seconds = asyncio.get_running_loop().time() - began
        seen = Seen(
            wrong=sum(_is_wrong(watcher, truth) for watcher in watchers),
            told=sum(watcher.told for watcher in watchers),
            connections=sum(watcher.connections for watcher in watchers),
            reread=sum(watcher.reread for watcher in watchers),
            seconds=seconds,
        )
        done.set()
        await asyncio.gather(*watching)
    print(json.dumps(dataclasses.asdict(seen)), flush=True)


class Watching:
    """The process, seen from the soak."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def compare(self) -> Seen:
        """What they saw, once they see it right or have run out of patience."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"compare\n")
        return Seen(**json.loads(await self.line()))

    async def line(self) -> str:
        assert self._process.stdout is not None
        line = (await self._process.stdout.readline()).decode().strip()
        assert line, "the crowd has left"
        return line


@contextlib.asynccontextmanager
async def watching(crowd: Crowd) -> AsyncIterator[Watching]:
    """A crowd of which everybody is connected."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.faults.crowd", stdin=pipe, stdout=pipe, limit=1 << 20
    )
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps(dataclasses.asdict(crowd)).encode() + b"\n")
        people = Watching(process)
        assert await people.line() == "ready"
        yield people
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _is_wrong(watcher: Watcher, truth: dict[str, str]) -> bool:
    wanted = truth if watcher.only is None else {watcher.only: truth[watcher.only]}
    return any(watcher.statuses.get(key) != status for key, status in wanted.items())


async def _true(answer: bool) -> bool:
    return answer


if __name__ == "__main__":
    uvloop.run(watch(Crowd(**json.loads(sys.stdin.readline()))))
