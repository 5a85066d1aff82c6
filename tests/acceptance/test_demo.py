"""The demo, as somebody meets it who has nothing but the program and an empty folder.

One demo serves most tests of a process, in their order; those that need another start it in a folder of their own.
"""

import asyncio
import json
import re
import signal
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx2
import pytest

from mail.explanation import ExplanationCode
from mail.status import MessageStatus
from tests.acceptance.processes import (
    Program,
    carepost,
    free_port,
    nobody_left_in,
    processes_in,
    program,
)

TRACKING_START = date(2019, 7, 23)
ALL = """query ($after: String) { messages(first: 100, after: $after) {
  nodes { status queuedAt sentAt account { kind } patient { id name } explanation { code text } }
  pageInfo { hasNextPage endCursor }
} }"""
READY = "Ctrl-C stops it."


@dataclass(frozen=True, slots=True)
class Demo:
    program: Program
    folder: Path
    printed: str

    @property
    def link(self) -> str:
        found = re.search(r"^(http://\S+/#token=\S+)$", self.printed, re.MULTILINE)
        assert found, self.printed
        return found[1]

    @property
    def url(self) -> str:
        return self.link.partition("/#")[0]

    @property
    def query(self) -> str:
        found = re.search(r"^\{$.*?^\}$", self.printed, re.MULTILINE | re.DOTALL)
        assert found, self.printed
        return found[0]

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {unquote(self.link.partition('=')[2])}"}
        body = {"query": query, "variables": variables}
        answer = httpx2.post(f"{self.url}/graphql", json=body, headers=headers, timeout=30, trust_env=False).json()
        assert "errors" not in answer, answer
        data: dict[str, Any] = answer["data"]
        return data


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="carepost-demo-", ignore_cleanup_errors=True) as name:
        yield Path(name)
        asyncio.run(nobody_left_in(Path(name)))  # who writes there while it is removed leaves half of it behind


@pytest.fixture(scope="module")
def running(home: Path) -> Iterator[Program]:
    """Started in an empty folder with an empty environment: PATH and HOME."""
    with program(home, "demo") as started:
        asyncio.run(started.says(READY))
        yield started


@pytest.fixture
async def demo(running: Program, home: Path) -> Demo:
    return Demo(running, home, running.printed)


async def test_it_prints_its_address_a_link_to_sign_in_and_a_query_that_works(demo: Demo) -> None:
    assert "Carepost is ready." in demo.printed
    assert httpx2.get(f"{demo.url}/readyz", trust_env=False).status_code == 200
    page = httpx2.get(f"{demo.url}/", trust_env=False)
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    [ada] = demo.ask(demo.query)["patients"]["nodes"]
    assert ada["name"] == "Ada Opened"
    assert len(ada["messages"]["nodes"]) == 5
    assert all(node["explanation"]["text"] for node in ada["messages"]["nodes"])
    assert len(re.findall(r"/#token=", demo.printed)) == 2  # staff's and the administrator's
    assert "Traceback" not in demo.printed


async def test_developers_may_look_around_in_it(demo: Demo) -> None:
    [link] = re.findall(r"(http://\S+/graphiql)#token=\S+", demo.printed)
    assert "graphiql/start.js" in httpx2.get(link, trust_env=False).text
    headers = {"authorization": f"Bearer {unquote(demo.link.partition('=')[2])}"}
    params = {"query": "{ __schema { queryType { name } } }"}
    answer = httpx2.get(f"{demo.url}/graphql", params=params, headers=headers, trust_env=False).json()
    assert answer == {"data": {"__schema": {"queryType": {"name": "Query"}}}}


async def test_it_has_a_practice_with_every_status_and_explanation_before_and_after_tracking_began(
    demo: Demo,
) -> None:
    patients = demo.ask("{ patients(first: 100) { nodes { id } } }")["patients"]["nodes"]
    assert 45 <= len(patients) <= 60
    messages: list[dict[str, Any]] = []
    after = None
    while True:
        page = demo.ask(ALL, after=after)["messages"]
        messages += page["nodes"]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert 250 <= len(messages) <= 700
    assert {message["status"] for message in messages} == {status.name for status in MessageStatus}
    codes = {message["explanation"]["code"] for message in messages}
    # Those that an ESP like SendGrid never gives, or that pass within seconds.
    rare = {
        "QUEUED",
        "RETRYING",
        "PROVIDER_CANNOT_CONFIRM",
        "OPENS_UNKNOWN",
        "REFUSED_BY_POLICY",
        "UNREACHABLE",
        "CONTENT_INVALID",
        "ACCOUNT_PROBLEM",
        "NOT_DELIVERED",
        "MAILBOX_FULL",
        "SENDER_REPUTATION",
    }
    assert {code.name for code in ExplanationCode} - codes <= rare
    assert {message["account"]["kind"] for message in messages} == {"ESP", "GMAIL", "SMTP"}
    before = [m for m in messages if datetime.fromisoformat(m["queuedAt"]).date() <= TRACKING_START]
    assert len(before) >= 20
    assert {m["status"] for m in before} <= {"SENT", "FAILED", "CANCELLED"}
    of_esp = [m for m in before if m["account"]["kind"] == "ESP" and m["status"] == "SENT"]
    assert {m["explanation"]["code"] for m in of_esp} == {"BEFORE_TRACKING"}
    own = [m for m in messages if m["account"]["kind"] != "ESP" and m["status"] != "QUEUED"]
    assert {(m["status"], m["explanation"]["code"]) for m in own} == {("SENT", "OWN_SERVER")}


async def test_a_second_demo_in_the_same_folder_says_which_one_runs(demo: Demo) -> None:
    ran = await carepost(demo.folder, "demo")
    assert (ran.code, ran.out) == (1, "")
    last = ran.err.strip().rpartition("\n")[2]
    assert last == (
        f"carepost: Another Carepost runs in .carepost (process {demo.program.process.pid}, at {demo.url}). "
        "Use that one, stop it, or set CAREPOST_DATA_DIR to another folder."
    )
    assert demo.ask("{ viewer { role } }") == {"viewer": {"role": "STAFF"}}


async def test_a_token_can_be_had_beside_it(demo: Demo) -> None:
    ran = await carepost(demo.folder, "token", "--role", "AUDITOR")
    assert ran.code == 0
    headers = {"authorization": f"Bearer {ran.last_line}"}
    body = {"query": "{ viewer { role } }"}
    answer = httpx2.post(f"{demo.url}/graphql", json=body, headers=headers, trust_env=False)
    assert answer.json() == {"data": {"viewer": {"role": "AUDITOR"}}}


async def test_secrets_can_be_read_by_their_owner_alone(demo: Demo) -> None:
    for name in ("secrets.json", "run.json"):
        assert (demo.folder / ".carepost" / name).stat().st_mode & 0o077 == 0


async def test_a_demo_that_is_killed_leaves_nobody_behind_and_starts_again(demo: Demo) -> None:
    patients = demo.ask("{ patients(first: 100) { nodes { id } } }")
    assert len(processes_in(demo.folder)) >= 6
    demo.program.kill()
    # At once, while the others may still be on their way out.
    with program(demo.folder, "demo", "--quiet") as again:
        second = Demo(again, demo.folder, await again.says(READY))
        assert second.ask("{ patients(first: 100) { nodes { id } } }") == patients
        run = json.loads((demo.folder / ".carepost" / "run.json").read_text())
        assert run["pid"] == again.process.pid
        again.kill()
    await nobody_left_in(demo.folder)
    with program(demo.folder, "demo", "--quiet") as third:
        await third.says(READY)
        third.tell(signal.SIGINT)
        assert await third.ends(within=20) == 0
        assert "Stopped." in third.printed
        assert "Traceback" not in third.printed
    await nobody_left_in(demo.folder, within=5)


async def test_a_port_that_was_asked_for_and_is_taken_ends_it_with_a_sentence(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ran = await carepost(folder, "demo", CAREPOST_PORT=str(taken))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        f"carepost: Port {taken} on 127.0.0.1 is taken by another program. Stop it, or choose another: "
        f"CAREPOST_PORT={taken + 1}\n"
    )
    assert list(folder.iterdir()) == []


async def test_a_port_that_was_not_asked_for_and_is_taken_is_left_for_the_next(folder: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", 8000))
        except OSError:
            pass  # somebody has it already, which is as good
        else:
            other.listen()
        with program(folder, "demo", "--quiet") as demo:
            printed = await demo.says("taken by another program; taking ")
            port = int(re.search(r"taking (\d+) instead", printed)[1])  # type: ignore[index]
            assert 8001 <= port < 8020
            demo.tell(signal.SIGINT)  # while it starts
            assert await demo.ends(within=30) == 0
            assert "Traceback" not in demo.printed
    await nobody_left_in(folder, within=5)


async def test_a_folder_that_cannot_be_written_is_one_sentence(folder: Path) -> None:
    (folder / "a-file").write_text("")
    data = str(folder / "a-file" / "data")
    ran = await carepost(folder, "demo", CAREPOST_DATA_DIR=data, CAREPOST_PORT=str(free_port()))
    assert ran.code == 1
    assert ran.err.startswith("carepost: ")
    assert "Traceback" not in ran.err


async def test_two_demos_started_at_once_each_serve_their_own_practice(folder: Path) -> None:
    homes = [folder / "one", folder / "two"]
    for home in homes:
        home.mkdir()
    with program(homes[0], "demo", "--quiet") as first, program(homes[1], "demo", "--quiet") as second:
        demos = [
            Demo(started, home, await started.says(READY)) for started, home in zip((first, second), homes, strict=True)
        ]
        assert demos[0].url != demos[1].url
        for demo in demos:
            assert demo.ask("{ viewer { practice { name } } }")["viewer"]["practice"]["name"]
        for demo in demos:
            demo.program.tell(signal.SIGINT)
        assert [await demo.program.ends(within=20) for demo in demos] == [0, 0]
    for home in homes:
        await nobody_left_in(home, within=5)
