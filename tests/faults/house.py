"""House: the real processes, each of them behind links that can break, and what can be done to them."""

import asyncio
import contextlib
import os
import re
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import asyncpg
import httpx2
import jwt

from api.roles import Role
from carepost.sandbox import customer
from db.migrate import migrate
from db.practices import Practice
from tests.acceptance.processes import free_port
from tests.faults.process import PATIENCE, Process
from tests.faults.proxy import Link, Proxy
from tests.faults.servers import Servers
from tests.support.databases import url_of
from tests.support.practice import make_practice
from tests.support.stack import JWT_SECRET, GraphQLClient, until

LEASE = 8
"""Seconds that a claim holds: short, so that what it costs shows; long enough for a machine that is busy."""
_ACCOUNT = """mutation ($input: CreateSendingAccountInput!) {
  createSendingAccount(input: $input) { account { id } webhookUrl errors { field message code } }
}"""


@dataclass(slots=True)
class House:
    """Who lives here. `front` is the load balancer that clients and ESPs come through."""

    servers: Servers
    folder: Path
    direct_url: str
    links: dict[str, Proxy]
    apis: list[Process] = field(default_factory=list)
    workers: list[Process] = field(default_factory=list)
    api_urls: list[str] = field(default_factory=list)
    esp_url: str = ""
    mailbox_url: str = ""
    accounts: dict[str, str] = field(default_factory=dict)
    """Global ids by kind: ESP, SMTP."""
    hook: str = ""
    secret: str = ""

    practice: Practice = field(init=False)
    client: GraphQLClient = field(init=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.links['front'].port}"

    @property
    def processes(self) -> list[Process]:
        return [*self.apis, *self.workers]

    async def link(self, name: str, link: Link) -> None:
        """Sets a link, or all whose names begin so: `postgres`, `valkey`."""
        for known, proxy in self.links.items():
            if known == name or known.startswith(f"{name}-"):
                await proxy.set(link)

    async def heal(self) -> None:
        """Everything as it should be: links open, servers up, processes running and awake."""
        for proxy in self.links.values():
            await proxy.set(Link.OPEN)
        await self.order("postgres start")
        with contextlib.suppress(AssertionError):
            await self.order("valkey start")
        for process in self.processes:
            if process.is_running:
                process.tell(signal.SIGCONT)
            else:
                process.start()

    async def order(self, words: str) -> None:
        await asyncio.to_thread(self.servers.order, words)

    async def ready(self) -> None:
        """Waits until every API process is ready and hears notices."""
        async with httpx2.AsyncClient(timeout=5, trust_env=False) as http:
            for url in self.api_urls:

                async def look(url: str = url) -> bool:
                    try:
                        answer = await http.get(f"{url}/readyz")
                    except httpx2.TransportError:
                        return False
                    return answer.status_code == 200 and answer.json()["live"] == "ok"

                await until(look, PATIENCE)

    async def readiness(self, number: int = 0) -> tuple[int, dict[str, str]]:
        """What an API process says of itself."""
        async with httpx2.AsyncClient(timeout=10, trust_env=False) as http:
            answer = await http.get(f"{self.api_urls[number]}/readyz")
        return answer.status_code, answer.json()

    async def ask(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Rows, as the superuser: for books that no client may see."""
        connection = await asyncpg.connect(self.direct_url)
        try:
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()


def settings(house: House, role: str) -> dict[str, str]:
    """The environment of a Carepost process: it knows its servers by their links alone."""
    name = house.direct_url.partition("?")[0].rpartition("/")[2]
    return {
        "CAREPOST_DATABASE_URL": f"postgresql://postgres:x@127.0.0.1:{house.links[f'postgres-{role}'].port}/{name}",
        "CAREPOST_REDIS_URL": f"redis://127.0.0.1:{house.links[f'valkey-{role}'].port}/0",
        "CAREPOST_SECRET_KEY": "a secret key of these processes which is long enough",
        "CAREPOST_JWT_SECRET": JWT_SECRET,
        "CAREPOST_PUBLIC_URL": house.url,
        "CAREPOST_LEASE_SECONDS": str(LEASE),
        "CAREPOST_SWEEP_SECONDS": "1",
        "CAREPOST_ALLOWED_NETWORKS": "127.0.0.0/8",
    }


def api(house: House, number: int, port: int) -> Process:
    environment = {**settings(house, "api"), "CAREPOST_PORT": str(port)}
    return Process(f"api-{number}", house.folder, ["carepost", "api"], environment)


def worker(house: House, number: int) -> Process:
    return Process(f"worker-{number}", house.folder, ["carepost", "worker"], settings(house, "worker"))


@contextlib.asynccontextmanager
async def database(servers: Servers) -> AsyncIterator[str]:
    """A database of its own, migrated; a crash of the server in between does no harm."""
    name = f"house_{uuid4().hex}"
    await _run(servers.database_url, f'CREATE DATABASE "{name}"')
    try:
        yield url_of(servers.database_url, name)
    finally:
        await _run(servers.database_url, f'DROP DATABASE "{name}" WITH (FORCE)')


async def _run(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def links(servers: Servers, ports: Sequence[int]) -> AsyncIterator[dict[str, Proxy]]:
    """The links to the servers and to API processes at these ports; the ESP's and the mail server's come later."""
    valkey = ("127.0.0.1", servers.valkey_port)
    targets: dict[str, list[object]] = {
        "postgres-api": [servers.postgres_socket],
        "postgres-worker": [servers.postgres_socket],
        "valkey-api": [valkey],
        "valkey-worker": [valkey],
        "front": [("127.0.0.1", port) for port in ports],
        "hooks": [("127.0.0.1", port) for port in ports],
    }
    async with contextlib.AsyncExitStack() as stack:
        yield {
            name: await stack.enter_async_context(Proxy(name, found))  # type: ignore[arg-type]
            for name, found in targets.items()
        }


@contextlib.asynccontextmanager
async def empty(servers: Servers, *, apis: int = 2, workers: int = 2) -> AsyncIterator[House]:
    """A house whose processes are still to be started; whatever runs at the end is killed."""
    ports = [free_port() for _ in range(apis)]
    with tempfile.TemporaryDirectory(prefix="carepost-house-", ignore_cleanup_errors=True) as name:
        async with database(servers) as direct_url, links(servers, ports) as doors:
            house = House(servers, Path(name), direct_url, doors)
            house.apis = [api(house, number, port) for number, port in enumerate(ports, 1)]
            house.api_urls = [f"http://127.0.0.1:{port}" for port in ports]
            house.workers = [worker(house, number) for number in range(1, workers + 1)]
            try:
                yield house
            finally:
                for process in house.processes:
                    process.kill()
                keep = os.environ.get("CAREPOST_FAULT_LOGS")
                if keep:
                    for process in house.processes:
                        (Path(keep) / process.log.name).write_text(process.printed)
                for proxy in house.links.values():
                    await proxy.set(Link.OPEN)
                await house.order("postgres start")


@contextlib.asynccontextmanager
async def furnished(
    servers: Servers, *, apis: int = 2, workers: int = 2, seed: str = "1", clocks: Mapping[str, float] | None = None
) -> AsyncIterator[House]:
    """A house that runs: a practice with an account at a sandbox ESP, the default, and one at a mail server. `clocks`
    says by how many seconds a process's wall clock is ahead, and lets it be set."""
    async with empty(servers, apis=apis, workers=workers) as house, contextlib.AsyncExitStack() as stack:
        for process in house.processes:
            process.ahead = (clocks or {}).get(process.name)
        await migrate(house.direct_url)
        house.practice = await make_practice(house.direct_url, "Northgate Practice")
        esp = Process("esp", house.folder, _sandbox("esp", "--max-delay", "0.6", "--seed", seed), {})
        smtp = Process("smtp", house.folder, _sandbox("smtp", "--http-port", "0", "--slow-seconds", "1"), {})
        for process in (esp, smtp, *house.processes):
            stack.callback(process.kill)
            process.start()
        house.esp_url = _found(await esp.says("listening on"), r"listening on (http://\S+)")
        house.mailbox_url = _found(await smtp.says("listening on"), r"smtp://\S+ (http://\S+)")
        smtp_port = int(_found(smtp.printed, r"smtp://127\.0\.0\.1:(\d+)"))
        for name, port in (("esp", _port(house.esp_url)), ("smtp", smtp_port)):
            house.links[name] = await stack.enter_async_context(Proxy(name, [("127.0.0.1", port)]))
        http = await stack.enter_async_context(httpx2.AsyncClient(base_url=house.url, timeout=15, trust_env=False))
        house.client = GraphQLClient(http, token_of(house.practice, "somebody"))
        await house.ready()
        await _open_accounts(house)
        yield house


def token_of(practice: Practice, subject: str) -> str:
    """One that holds whatever day a clock of ours shows."""
    now = datetime.now(UTC)
    claims = {
        "sub": subject,
        "practice_id": str(practice.id),
        "role": Role.ADMIN.value,
        "iat": now - timedelta(days=600),
        "exp": now + timedelta(days=600),
    }
    return jwt.encode(claims, JWT_SECRET, algorithm="HS256")


async def _open_accounts(house: House) -> None:
    """SendGrid first, which makes it the default; its webhooks come through their own link."""
    async with httpx2.AsyncClient(base_url=house.esp_url, trust_env=False) as esp:
        joined = await customer.join(esp, "sendgrid", house.url)
        credentials = {**joined.credentials, "base_url": f"http://127.0.0.1:{house.links['esp'].port}"}
        house.secret = joined.secret
        made = await _open_account(house, credentials, kind="ESP", provider="sendgrid", webhookSecret=joined.secret)
        house.hook = made["webhookUrl"].replace(str(house.links["front"].port), str(house.links["hooks"].port))
        await customer.join(esp, "sendgrid", house.hook)
    house.accounts["ESP"] = made["account"]["id"]
    server = {"host": "127.0.0.1", "port": str(house.links["smtp"].port), "security": "none"}
    made = await _open_account(house, server, kind="SMTP")
    house.accounts["SMTP"] = made["account"]["id"]


async def _open_account(house: House, credentials: Mapping[str, str], **fields: str) -> dict[str, dict[str, str]]:
    wish = {
        **fields,
        "name": fields["kind"],
        "fromAddress": "hello@northgate.example",
        "credentials": [{"name": name, "value": value} for name, value in credentials.items()],
    }
    made: dict[str, dict[str, str]] = (await house.client(_ACCOUNT, input=wish))["createSendingAccount"]
    assert made["errors"] == []  # type: ignore[comparison-overlap]
    return made


def _sandbox(name: str, *more: str) -> list[str]:
    return [f"carepost.sandbox.{name}", "--port", "0", "--exit-with-stdin", *more]


def _found(text: str, pattern: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[1]


def _port(url: str) -> int:
    return int(url.rpartition(":")[2])
