"""`carepost audit`, as an operator runs it beside an API that is asked."""

import json
from pathlib import Path

import httpx2

from api.graphql.ids import global_id
from db.practices import Practice
from tests.acceptance.processes import carepost, serving, settings_for
from tests.acceptance.test_cli import one_sentence
from tests.support.databases import OWN_KEY
from tests.support.practice import make_patient
from tests.support.stack import Stack, token_for, until

CREATE = 'mutation { createPatient(input: {name: "Canary", email: "canary@mail.example"}) { patient { id } } }'
READ = "query ($id: ID!) { patient(id: $id) { name } }"


async def test_it_prints_who_changed_and_saw_what_and_nothing_of_a_patient(
    stack: Stack, practice: Practice, folder: Path
) -> None:
    settings = settings_for(stack, OWN_KEY)
    seen, unseen = [await make_patient(stack.database, practice) for _ in range(2)]
    patient_id = global_id("Patient", seen.id)
    headers = {"authorization": f"Bearer {token_for(practice)}"}
    async with (
        serving(folder, **settings) as (_, url),
        httpx2.AsyncClient(base_url=url, trust_env=False, headers=headers) as http,
    ):
        for body in ({"query": CREATE}, {"query": READ, "variables": {"id": patient_id}}):
            assert "errors" not in (await http.post("/graphql", json=body)).json()

        async def told(*options: str) -> list[tuple[str, str, list[str]]]:
            ran = await carepost(folder, "audit", *options, **settings)
            assert ran.code == 0, ran.err
            assert "canary" not in ran.out.lower()
            entries = [json.loads(line) for line in ran.out.splitlines()]
            return [(each["subject"], each["action"], each.get("Patient", [])) for each in entries]

        async def seen_by_now() -> list[tuple[str, str, list[str]]]:
            return await told("--patient", patient_id)

        assert await until(seen_by_now) == [("somebody", "view patient", [str(seen.id)])]
        assert {action for _, action, _ in await told()} == {"createPatient", "view patient"}
        assert await told("--patient", str(unseen.id)) == []
        assert await told("--subject", "nobody") == []
        assert await told("--to", "2026-01-01") == []


async def test_what_is_not_meant_is_said_in_one_sentence(stack: Stack, practice: Practice, folder: Path) -> None:
    for options, said in (
        (["--patient", "nobody"], "'nobody' is no id of a patient."),
        (["--from", "yesterday"], "--from 'yesterday' is no time; name one such as 2026-03-01T12:00Z."),
        (["--practice", "nobody"], "'nobody' is no id of a practice."),
    ):
        ran = await carepost(folder, "audit", *options, **settings_for(stack, OWN_KEY))
        assert one_sentence(ran) == said
