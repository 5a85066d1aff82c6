"""What each server is asked: the same rows, with the fields that it has."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from api.graphql.ids import global_id
from bench.load import post

PAGE: Final = 25
_SEARCH: Final = "example 1"

# What PostGraphile can tell of the same fields. It has no label, explanation or `tracked`; the page would make them.
_POSTGRAPHILE_ROW: Final = """id subject verdict deliveredAt openedAt queuedAt scheduledAt sentAt
  account: sendingAccountByPracticeIdAndAccountIdAndAccountKind { id name kind provider }
  resendOf: messageByPracticeIdAndResendOf { id }"""
POSTGRAPHILE_TAB: Final = f"""query PatientMessages($practice: UUID!, $id: UUID!, $first: Int!, $after: Cursor) {{
  patient: patientByPracticeIdAndRowId(practiceId: $practice, rowId: $id) {{
    id name email emailHealth openTracking
    messages: messagesByPracticeIdAndPatientId(first: $first, after: $after, orderBy: [ROW_ID_DESC]) {{
      nodes {{ {_POSTGRAPHILE_ROW} }}
      pageInfo {{ hasNextPage endCursor }}
    }}
  }}
}}"""
POSTGRAPHILE_LIST: Final = f"""query Messages($practice: UUID!, $first: Int!, $after: Cursor) {{
  messages: allMessages(condition: {{practiceId: $practice}}, first: $first, after: $after, orderBy: [ROW_ID_DESC]) {{
    nodes {{
      {_POSTGRAPHILE_ROW}
      patient: patientByPracticeIdAndPatientId {{ id name email emailHealth openTracking }}
    }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}"""
POSTGRAPHILE_SEARCH: Final = """query Patients($search: String!, $first: Int!, $after: Cursor) {
  patients: searchPatients(search: $search, first: $first, after: $after) {
    nodes { id name email emailHealth openTracking }
    pageInfo { hasNextPage endCursor }
  }
}"""

# The schema of `bench/peers/yoga` was written for these questions: PostGraphile's fields.
_YOGA_ROW: Final = """id subject verdict deliveredAt openedAt queuedAt scheduledAt sentAt
  account { id name kind provider }
  resendOf { id }"""
YOGA_TAB: Final = f"""query PatientMessages($id: ID!, $first: Int!, $after: String) {{
  patient(id: $id) {{
    id name email emailHealth openTracking
    messages(first: $first, after: $after) {{
      nodes {{ {_YOGA_ROW} }}
      pageInfo {{ hasNextPage endCursor }}
    }}
  }}
}}"""
YOGA_LIST: Final = f"""query Messages($first: Int!, $after: String) {{
  messages(first: $first, after: $after) {{
    nodes {{ {_YOGA_ROW} patient {{ id name email emailHealth openTracking }} }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}"""
YOGA_SEARCH: Final = """query Patients($search: String!, $first: Int!) {
  patients(search: $search, first: $first) {
    nodes { id name email emailHealth openTracking }
    pageInfo { hasNextPage endCursor }
  }
}"""

# A field that the compiled executor leaves to graphql-core, so that all of the operation goes there: the same server
# and resolvers, with documents parsed and validated once, and loaders.
_LEFT_TO_GRAPHQL_CORE: Final = ' left: __type(name: "Message") { name }\n}'


@dataclass(frozen=True, slots=True)
class Patient:
    """Whom the load asks for, with the token of somebody of the practice."""

    practice_id: UUID
    patient_id: UUID
    token: str


Ask = Callable[[Patient], str]
"""Makes the whole request."""


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


def left_to_graphql_core(document: str) -> str:
    return document.rstrip().removesuffix("}") + _LEFT_TO_GRAPHQL_CORE


def ask_carepost(document: str, after: Callable[[Patient], str | None] = lambda patient: None) -> Ask:
    def ask(patient: Patient) -> str:
        variables = {
            "id": global_id("Patient", patient.patient_id),
            "filter": None,
            "search": _SEARCH,
            "first": PAGE,
            "after": after(patient),
        }
        return _graphql(document, variables, patient.token)

    return ask


def ask_peer(document: str) -> Ask:
    """Asks PostGraphile or Yoga."""

    def ask(patient: Patient) -> str:
        variables = {
            "practice": str(patient.practice_id),
            "id": str(patient.patient_id),
            "search": _SEARCH,
            "first": PAGE,
            "after": None,
        }
        return _graphql(document, variables, patient.token)

    return ask


def ask_bare(patient: Patient) -> str:
    return post("/tab", json.dumps([str(patient.practice_id), str(patient.patient_id)]).encode(), {})


def _graphql(document: str, variables: Mapping[str, object], token: str) -> str:
    declared = {name: value for name, value in variables.items() if f"${name}:" in document}
    name = re.findall(r"query (\w+)", document)[0]
    body = json.dumps({"query": document, "variables": declared, "operationName": name}).encode()
    return post("/graphql", body, {"Accept": "application/json", "Authorization": f"Bearer {token}"})
