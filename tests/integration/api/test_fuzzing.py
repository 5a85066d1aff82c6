"""Any operation that the schema admits gets an answer: never a 5xx, and no error that had to be masked.

hypothesis-graphql makes the operations and the real server answers them, each query twice: by graphql-core, and then by
what was compiled of it.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis_graphql import mutations, nodes, queries

from api.config import Limits
from api.graphql.schema import build_schema
from api.roles import Role
from db.practices import Practice
from tests.support.fuzzing import TRIED, examples
from tests.support.practice import make_account, make_message, make_patient
from tests.support.stack import Stack, token_for

EXAMPLES = examples(60)
Record = Callable[[str, object], None]
"""Pytest's `record_property`."""
SCHEMA = build_schema().as_str()
SCALARS: Any = {
    "DateTime": st.sampled_from(
        ["2026-01-31T09:00:00Z", "9999-12-31T23:59:59+14:00", "0001-01-01T00:00:00-14:00", "noon", ""]
    ).map(nodes.String),
    "Date": st.sampled_from(["2026-01-31", "0001-01-01", "9999-12-31", "2026-02-30", ""]).map(nodes.String),
}
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


Fuzz = Callable[..., Awaitable[None]]


@pytest.fixture
async def fuzz(stack: Stack, practice: Practice, record_property: Record) -> Fuzz:
    """Posts bodies to an API that has a patient and a message, each so many times."""
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    await make_message(stack.database, practice, patient, account)
    api = await stack.api(limits=Limits(requests_per_second=0))
    headers = {"authorization": f"Bearer {token_for(practice, Role.ADMIN)}", "content-type": "application/json"}

    async def run(bodies: st.SearchStrategy[bytes], times: int = 1) -> None:
        posted = 0

        def post_examples() -> None:
            with httpx2.Client(timeout=30, trust_env=False, headers=headers) as http:

                @given(bodies)
                @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
                def post(body: bytes) -> None:
                    nonlocal posted
                    for _ in range(times):
                        posted += 1
                        response = http.post(f"{api}/graphql", content=body)
                        assert response.status_code < 500, body
                        for error in response.json().get("errors", []):
                            assert error["extensions"]["code"] not in {"INTERNAL_ERROR", "TIMEOUT"}, error

                post()

        # Hypothesis drives synchronous code, and the server runs in this loop.
        await asyncio.to_thread(post_examples)
        assert posted >= EXAMPLES
        record_property(TRIED, posted)

    return run


def as_body(query: object) -> bytes:
    return json.dumps({"query": query}).encode()


async def test_every_query_that_the_schema_admits_is_answered(fuzz: Fuzz) -> None:
    await fuzz(queries(SCHEMA, custom_scalars=SCALARS).map(as_body), 2)


async def test_every_mutation_that_the_schema_admits_is_answered(fuzz: Fuzz) -> None:
    await fuzz(mutations(SCHEMA, custom_scalars=SCALARS).map(as_body))


async def test_variables_of_any_shape_are_answered(fuzz: Fuzz) -> None:
    query = """query ($a: ID!, $b: Int!, $c: String, $d: MessageFilter, $e: Date!) {
      node(id: $a) { id } patients(first: $b, after: $c, search: "x") { nodes { id } }
      messages(filter: $d, after: $c) { nodes { id } } deliveryReport(from: $e, to: $e) { total } }"""
    variables = st.fixed_dictionaries({}, optional=dict.fromkeys("abcde", ANYTHING))
    bodies = variables.map(lambda given: json.dumps({"query": query, "variables": given}).encode())
    await fuzz(bodies, 2)


async def test_inputs_of_any_shape_are_answered(fuzz: Fuzz) -> None:
    query = """mutation ($input: CreatePatientInput!) {
      createPatient(input: $input) { patient { id } errors { code field message } } }"""
    inputs = st.fixed_dictionaries({"name": ANYTHING, "email": ANYTHING}) | st.fixed_dictionaries(
        {"name": st.text(), "email": st.emails() | st.text()}
    )
    bodies = inputs.map(lambda given: json.dumps({"query": query, "variables": {"input": given}}).encode())
    await fuzz(bodies)


@pytest.mark.parametrize("make", [st.binary, lambda: ANYTHING.map(lambda value: json.dumps(value).encode())])
async def test_bodies_of_any_bytes_are_answered(fuzz: Fuzz, make: Callable[[], st.SearchStrategy[bytes]]) -> None:
    await fuzz(make())
