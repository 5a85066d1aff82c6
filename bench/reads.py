"""What is read: the Messages tab (a patient and 25 messages, as the page asks for them), the practice's list of
messages, and a search for patients."""

import base64
import contextlib
import dataclasses
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

_PAGE: Final = 25
_CONNECTIONS: Final = (16, 64)
_SEARCH: Final = "example 1"
_REFERENCE: Final = "PostGraphile with RLS"

# What PostGraphile can tell of the same fields. It has no label, explanation or `tracked`; the page would make them.
_POSTGRAPHILE_ROW: Final = """id subject verdict deliveredAt openedAt queuedAt scheduledAt sentAt
  account: sendingAccountByPracticeIdAndAccountIdAndAccountKind { id name kind provider }
  resendOf: messageByPracticeIdAndResendOf { id }"""
_POSTGRAPHILE_TAB: Final = f"""query PatientMessages($practice: UUID!, $id: UUID!, $first: Int!, $after: Cursor) {{
  patient: patientByPracticeIdAndRowId(practiceId: $practice, rowId: $id) {{
    id name email emailHealth openTracking
    messages: messagesByPracticeIdAndPatientId(first: $first, after: $after, orderBy: [ROW_ID_DESC]) {{
      nodes {{ {_POSTGRAPHILE_ROW} }}
      pageInfo {{ hasNextPage endCursor }}
    }}
  }}
}}"""
_POSTGRAPHILE_LIST: Final = f"""query Messages($practice: UUID!, $first: Int!, $after: Cursor) {{
  messages: allMessages(condition: {{practiceId: $practice}}, first: $first, after: $after, orderBy: [ROW_ID_DESC]) {{
    nodes {{
      {_POSTGRAPHILE_ROW}
      patient: patientByPracticeIdAndPatientId {{ id name email emailHealth openTracking }}
    }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}"""
_POSTGRAPHILE_SEARCH: Final = """query Patients($search: String!, $first: Int!, $after: Cursor) {
  patients: searchPatients(search: $search, first: $first, after: $after) {
    nodes { id name email emailHealth openTracking }
    pageInfo { hasNextPage endCursor }
  }
}"""
# A field that the compiled executor leaves to graphql-core, so that all of the operation goes there: the same server
# and resolvers, with documents parsed and validated once, and loaders.
_LEFT_TO_GRAPHQL_CORE: Final = ' left: __type(name: "Message") { name }\n}'


@dataclass(frozen=True, slots=True)
class Read:
    """One thing that is read, with those who read it."""

    title: str
    contenders: list[Contender]
    against: str = _REFERENCE


@dataclass(frozen=True, slots=True)
class _Patient:
    """Whom the load asks for, with the token of somebody of the practice."""

    practice_id: UUID
    patient_id: UUID
    token: str


def page_document(name: str) -> str:
    """A document that the page sends, read from its source."""
    source = (Path(__file__).parent.parent / "api/web/operations.js").read_text()
    constants = dict(re.findall(r"const (\w+) =\s+[\"`](.*?)[\"`];", source, re.DOTALL))
    document = constants[name]
    return re.sub(r"\$\{(\w+)\}", lambda match: constants[match[1]], document)


def list_document() -> str:
    """The practice's messages, each as the tab shows it, and whom it went to."""
    nodes = re.search(r"nodes \{.*?resendOf \{ id \}", page_document("PATIENT_MESSAGES"), re.DOTALL)
    assert nodes is not None
    return f"""query Messages($first: Int!, $after: String) {{
  messages(first: $first, after: $after) {{
    {nodes[0]} patient {{ id name email emailHealth openTracking }} }}
    pageInfo {{ hasNextPage endCursor }}
    liveCursor
  }}
}}"""


Ask = Callable[[_Patient], str]


@contextlib.asynccontextmanager
async def reads(database_url: str, redis_url: str, tenants: Sequence[Tenant], pace: Pace) -> AsyncIterator[list[Read]]:
    """All of it on the same servers; everybody is seen to give the same rows first."""
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
    processes: list[tuple[str, Sequence[str], Mapping[str, str]]] = [
        ("Carepost", [sys.executable, "-m", "carepost", "api"], carepost),
        ("PostGraphile with RLS", node, {**peer, "BENCH_SECRET": JWT_SECRET}),
        ("PostGraphile without", node, peer),
        ("Bare rows to JSON", [sys.executable, "-m", "bench.peers.bare"], carepost),
    ]
    tab, listed, search = page_document("PATIENT_MESSAGES"), list_document(), page_document("PATIENTS")
    tab_asks: dict[str, tuple[str, Ask]] = {
        "Carepost": ("Carepost", _ask_carepost(tab)),
        "Carepost by graphql-core": ("Carepost", _ask_carepost(_left_to_graphql_core(tab))),
        "PostGraphile with RLS": ("PostGraphile with RLS", _ask_postgraphile(_POSTGRAPHILE_TAB)),
        "PostGraphile without": ("PostGraphile without", _ask_postgraphile(_POSTGRAPHILE_TAB)),
        "Bare rows to JSON": ("Bare rows to JSON", _ask_bare),
    }
    list_asks: dict[str, tuple[str, Ask]] = {
        "Carepost": ("Carepost", _ask_carepost(listed)),
        "Carepost by graphql-core": ("Carepost", _ask_carepost(_left_to_graphql_core(listed))),
        "PostGraphile with RLS": ("PostGraphile with RLS", _ask_postgraphile(_POSTGRAPHILE_LIST)),
    }
    search_asks: dict[str, tuple[str, Ask]] = {
        "Carepost": ("Carepost", _ask_carepost(search)),
        "Carepost by graphql-core": ("Carepost", _ask_carepost(_left_to_graphql_core(search))),
        "PostGraphile with RLS": ("PostGraphile with RLS", _ask_postgraphile(_POSTGRAPHILE_SEARCH)),
    }
    async with contextlib.AsyncExitStack() as stack:
        servers = {
            name: await stack.enter_async_context(serving(name, arguments, environment))
            for name, arguments, environment in processes
        }
        found = []
        for title, asks in (
            ("Messages tab: a patient and 25 messages", tab_asks),
            ("The practice's list: 25 messages and their patients", list_asks),
            ("A search for patients", search_asks),
        ):
            loads = _loads(servers, asks, patients, pace)
            for connections in _CONNECTIONS:
                contenders = [
                    Contender(name, server, dataclasses.replace(load, connections=connections))
                    for name, server, load in loads
                ]
                found.append(Read(f"{title}, {connections} connections", contenders))
        yield found


def _loads(
    servers: Mapping[str, Server], asks: Mapping[str, tuple[str, Ask]], patients: Sequence[_Patient], pace: Pace
) -> list[tuple[str, Server, Load]]:
    loads = []
    shown: dict[str, list[str]] = {}
    for name, (process, ask) in asks.items():
        server = servers[process]
        requests = [ask(patient) for patient in patients]
        answers = [_answer(server, request) for request in requests[:: max(1, len(requests) // 10)]]
        shown[name] = [_ids(answer) for answer in answers]
        least = min(len(answer) for answer in answers) // 2
        loads.append((name, server, Load(server.port, requests, _CONNECTIONS[0], pace.seconds, pace.warm_up, least)))
    if len(set(map(str, shown.values()))) != 1:
        raise RuntimeError(f"the servers do not show the same rows: {shown}")
    return loads


def _left_to_graphql_core(document: str) -> str:
    return document.rstrip().removesuffix("}") + _LEFT_TO_GRAPHQL_CORE


def _ask_carepost(document: str) -> Ask:
    def ask(patient: _Patient) -> str:
        variables = {
            "id": global_id("Patient", patient.patient_id),
            "filter": None,
            "search": _SEARCH,
            "first": _PAGE,
            "after": None,
        }
        return _graphql(document, variables, patient.token)

    return ask


def _ask_postgraphile(document: str) -> Ask:
    def ask(patient: _Patient) -> str:
        variables = {
            "practice": str(patient.practice_id),
            "id": str(patient.patient_id),
            "search": _SEARCH,
            "first": _PAGE,
            "after": None,
        }
        return _graphql(document, variables, patient.token)

    return ask


def _ask_bare(patient: _Patient) -> str:
    return post(f"/{patient.practice_id}/{patient.patient_id}", b"", {})


def _graphql(document: str, variables: Mapping[str, object], token: str) -> str:
    declared = {name: value for name, value in variables.items() if f"${name}:" in document}
    name = re.findall(r"query (\w+)", document)[0]
    body = json.dumps({"query": document, "variables": declared, "operationName": name}).encode()
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


def _ids(answer: bytes) -> str:
    """The ids of the rows that an answer shows, in order, whatever they are wrapped in."""
    content: Any = json.loads(answer)
    content = content.get("data", content)
    content = content.get("patient") or content
    rows = content.get("messages") or content.get("patients")
    rows = rows["nodes"] if isinstance(rows, dict) else rows
    if not rows:
        raise RuntimeError("an answer without rows")
    return ",".join(_uuid(row["id"]) for row in rows)


def _uuid(global_or_plain: str) -> str:
    if len(global_or_plain) == 36:
        return global_or_plain
    decoded = base64.urlsafe_b64decode(global_or_plain + "=" * (-len(global_or_plain) % 4)).decode()
    return str(re.findall(r"[0-9a-f-]{36}", decoded)[-1])
