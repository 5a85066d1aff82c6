"""The Messages tab: a patient and 25 messages, as the page asks for them."""

import base64
import contextlib
import json
import re
import sys
import urllib.request
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

from api.auth import Role
from api.graphql.ids import global_id
from bench.load import Load, post
from bench.node import prepare_postgraphile
from bench.processes import Server, serving
from bench.rounds import Contender, Pace
from bench.world import JWT_SECRET, SECRET_KEY, Tenant
from carepost.config import Settings
from carepost.tokens import make_token

CONNECTIONS: Final = 16
_PAGE: Final = 25

# What PostGraphile can tell of the same fields. It has no label, explanation or `tracked`; the page would make them.
_POSTGRAPHILE: Final = """query PatientMessages($practice: UUID!, $id: UUID!, $first: Int!, $after: Cursor) {
  patient: patientByPracticeIdAndRowId(practiceId: $practice, rowId: $id) {
    id name email emailHealth openTracking
    messages: messagesByPracticeIdAndPatientId(first: $first, after: $after, orderBy: [ROW_ID_DESC]) {
      nodes {
        id subject verdict deliveredAt openedAt queuedAt scheduledAt sentAt
        account: sendingAccountByPracticeIdAndAccountIdAndAccountKind { id name kind provider }
        resendOf: messageByPracticeIdAndResendOf { id }
      }
      pageInfo { hasNextPage endCursor }
    }
  }
}"""


@dataclass(frozen=True, slots=True)
class _Patient:
    """Whom the load asks for, with the token of somebody of the practice."""

    practice_id: UUID
    patient_id: UUID
    token: str


def page_document() -> str:
    """The document that the page sends, read from its source."""
    source = (Path(__file__).parent.parent / "api/web/operations.js").read_text()
    constants = dict(re.findall(r"const (\w+) =\s+[\"`](.*?)[\"`];", source, re.DOTALL))
    document = constants["PATIENT_MESSAGES"]
    return re.sub(r"\$\{(\w+)\}", lambda match: constants[match[1]], document)


@contextlib.asynccontextmanager
async def contenders(
    database_url: str, redis_url: str, tenants: Sequence[Tenant], pace: Pace
) -> AsyncIterator[list[Contender]]:
    """The servers, each with its load; every one is seen to give the same messages first."""
    settings = Settings(jwt_secret=JWT_SECRET)
    patients = []
    for tenant in tenants:
        token = make_token(settings, tenant.practice.id, Role.STAFF, "benchmark", timedelta(hours=8))
        patients += [_Patient(tenant.practice.id, patient_id, token) for patient_id in tenant.queried]
    address = urlsplit(database_url)
    node = prepare_postgraphile()
    peer = {
        "BENCH_PGHOST": parse_qs(address.query)["host"][0],
        "BENCH_PGUSER": address.username or "",
        "BENCH_PGDATABASE": address.path[1:],
        "NODE_ENV": "production",
        "GRAPHILE_ENV": "production",
    }
    carepost = {
        "CAREPOST_DATABASE_URL": database_url,
        "CAREPOST_REDIS_URL": redis_url,
        "CAREPOST_SECRET_KEY": SECRET_KEY,
        "CAREPOST_JWT_SECRET": JWT_SECRET,
    }
    servers: list[tuple[str, Sequence[str], Mapping[str, str], Callable[[_Patient], str]]] = [
        ("Carepost", [sys.executable, "-m", "carepost", "api"], carepost, _ask_carepost(page_document())),
        ("PostGraphile with RLS", node, {**peer, "BENCH_SECRET": JWT_SECRET}, _ask_postgraphile),
        ("PostGraphile without", node, peer, _ask_postgraphile),
        ("Bare rows to JSON", [sys.executable, "-m", "bench.peers.bare"], carepost, _ask_bare),
    ]
    async with contextlib.AsyncExitStack() as stack:
        found = []
        shown: dict[str, list[str]] = {}
        for name, arguments, environment, ask in servers:
            server = await stack.enter_async_context(serving(name, arguments, environment))
            requests = [ask(patient) for patient in patients]
            answers = [_answer(server, request) for request in requests[:: max(1, len(requests) // 10)]]
            shown[name] = [_message_ids(answer) for answer in answers]
            least = min(len(answer) for answer in answers) // 2
            load = Load(server.port, requests, CONNECTIONS, pace.seconds, pace.warm_up, least)
            found.append(Contender(name, server, load))
        if len(set(map(str, shown.values()))) != 1:
            raise RuntimeError(f"the servers do not show the same messages: {shown}")
        yield found


def _ask_carepost(document: str) -> Callable[[_Patient], str]:
    def ask(patient: _Patient) -> str:
        variables = {"id": global_id("Patient", patient.patient_id), "filter": None, "first": _PAGE, "after": None}
        return _graphql(document, variables, patient.token)

    return ask


def _ask_postgraphile(patient: _Patient) -> str:
    variables = {"practice": str(patient.practice_id), "id": str(patient.patient_id), "first": _PAGE, "after": None}
    return _graphql(_POSTGRAPHILE, variables, patient.token)


def _ask_bare(patient: _Patient) -> str:
    return post(f"/{patient.practice_id}/{patient.patient_id}", b"", {})


def _graphql(document: str, variables: Mapping[str, object], token: str) -> str:
    body = json.dumps({"query": document, "variables": variables, "operationName": "PatientMessages"}).encode()
    return post("/graphql", body, {"Accept": "application/json", "Authorization": f"Bearer {token}"})


def _answer(server: Server, request: str) -> bytes:
    """The body that a request of the load is answered with."""
    head, _, body = request.partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    url = f"http://127.0.0.1:{server.port}{first.split()[1]}"
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers), timeout=30) as response:
        answer: bytes = response.read()
    if b'"errors"' in answer:
        raise RuntimeError(f"{server.name} answers {answer[:500]!r}")
    return answer


def _message_ids(answer: bytes) -> str:
    """The ids of the messages that an answer shows, in order, whatever it is wrapped in."""
    content: Any = json.loads(answer)
    content = content.get("data", {}).get("patient") or content
    messages = content["messages"]
    nodes = messages["nodes"] if isinstance(messages, dict) else messages
    if len(nodes) != _PAGE:
        raise RuntimeError(f"{len(nodes)} messages instead of {_PAGE}")
    return ",".join(_uuid(node["id"]) for node in nodes)


def _uuid(global_or_plain: str) -> str:
    if len(global_or_plain) == 36:
        return global_or_plain
    decoded = base64.urlsafe_b64decode(global_or_plain + "=" * (-len(global_or_plain) % 4)).decode()
    return str(re.findall(r"[0-9a-f-]{36}", decoded)[-1])
