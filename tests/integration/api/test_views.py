"""Who saw whose data is in the audit trail, whichever way it was read, and nothing else of it is."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest
from graphql import GraphQLObjectType, GraphQLSchema, get_named_type

from api.auth import Principal, Role
from api.graphql.context import Context
from api.graphql.ids import global_id
from api.graphql.schema import build_schema
from api.views import View, Views
from carepost.audit import line
from carepost.config import Settings
from carepost.tokens import make_token
from db.audit import Wanted, read_trail
from db.patients import Patient
from db.pool import Database
from db.practices import Practice
from mail.event import EventKind
from mail.ids import MessageId
from tests.integration.api.evidence import Evidence, make_messages
from tests.integration.api.sockets import LiveClient
from tests.support.practice import make_account, make_patient
from tests.support.stack import JWT_SECRET, Stack, token_for, until

SCHEMA: GraphQLSchema = build_schema()._schema
ADA, BOB = "Ada Lovelace", "Bob Builder"


@dataclass(frozen=True, slots=True)
class Ward:
    """Two patients, the first of whom got a message."""

    ada: Patient
    bob: Patient
    message: MessageId
    event: str


@pytest.fixture(autouse=True)
def written_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody here waits for the second that a view may wait in memory."""
    monkeypatch.setattr("api.views.EVERY", 0.02)


@pytest.fixture
async def ward(stack: Stack, practice: Practice, evidence: Evidence) -> Ward:
    ada = await make_patient(stack.database, practice, "ada@mail.example", ADA)
    bob = await make_patient(stack.database, practice, "bob@mail.example", BOB)
    account = await make_account(stack.database, practice)
    [message] = await make_messages(stack.database, practice, ada, account, 1)
    await evidence.of(practice, message, EventKind.DELIVERED)
    async with stack.database.tenant(practice.id) as connection:
        key = await connection.fetchval("SELECT dedupe_key FROM message_event")
    return Ward(ada, bob, message, f"{message}/{key}")


Seen = set[tuple[str, frozenset[UUID]]]


async def seen_by(database: Database, practice: Practice, subject: str = "somebody") -> Seen:
    """What the trail says that somebody saw, each kind with all of its patients."""
    async with database.tenant(practice.id) as connection:
        rows = await connection.fetch("SELECT view, patient_ids FROM view_entry WHERE subject = $1", subject)
    kinds: dict[str, set[UUID]] = {}
    for row in rows:
        kinds.setdefault(row["view"], set()).update(row["patient_ids"])
    return {(view, frozenset(patients)) for view, patients in kinds.items()}


async def until_seen(stack: Stack, practice: Practice, expected: Seen) -> None:
    async def look() -> bool:
        return await seen_by(stack.database, practice) >= expected

    try:
        await until(look)
    finally:
        assert await seen_by(stack.database, practice) == expected


_PERSON = "name email"
_LETTER = "subject recipient status"
# Of each field of Query that leads to a patient: ways to read by it, and what each of them shows of whom.
WAYS: dict[str, list[tuple[str, Callable[[Ward], set[tuple[View, tuple[UUID, ...]]]]]]] = {
    "patient": [
        (f"{{ patient(id: $patient) {{ {_PERSON} }} }}", lambda w: {(View.PATIENT, (w.ada.id,))}),
        (f"{{ patient(id: $patient) {{ messages {{ nodes {{ {_LETTER} }} }} }} }}",
         lambda w: {(View.MESSAGES, (w.ada.id,))}),
        ("{ patient(id: $patient) { a: messages { nodes { text } } b: messages { nodes { status } } } }",
         lambda w: {(View.PATIENT, (w.ada.id,)), (View.MESSAGES, (w.ada.id,)), (View.BODY, (w.ada.id,))}),
    ],
    "patients": [
        (f"{{ patients {{ nodes {{ {_PERSON} }} }} }}", lambda w: {(View.PATIENTS, (w.ada.id, w.bob.id))}),
        (f"{{ patients(first: 1) {{ edges {{ node {{ {_PERSON} }} }} }} }}", lambda w: {(View.PATIENTS, (w.ada.id,))}),
        (f'{{ patients(search: "Lovelace") {{ nodes {{ {_PERSON} }} }} }}', lambda w: {(View.SEARCH, (w.ada.id,))}),
        (f'{{ patients(search: "Zanzibar") {{ nodes {{ {_PERSON} }} }} }}', lambda w: {(View.SEARCH, ())}),
        (f"{{ patients {{ nodes {{ messages {{ nodes {{ {_LETTER} }} }} }} }} }}",
         lambda w: {(View.PATIENTS, (w.ada.id, w.bob.id)), (View.MESSAGES, (w.ada.id, w.bob.id))}),
    ],
    "messages": [
        (f"{{ messages {{ nodes {{ {_LETTER} }} }} }}", lambda w: {(View.MESSAGES, (w.ada.id,))}),
        ("{ messages { nodes { id } } }", lambda w: {(View.MESSAGES, (w.ada.id,))}),
        ("{ messages { nodes { html } } }", lambda w: {(View.MESSAGES, (w.ada.id,)), (View.BODY, (w.ada.id,))}),
    ],
    "message": [
        (f"{{ message(id: $message) {{ {_LETTER} }} }}", lambda w: {(View.MESSAGE, (w.ada.id,))}),
        (f"{{ message(id: $message) {{ text patient {{ {_PERSON} }} }} }}",
         lambda w: {(View.MESSAGE, (w.ada.id,)), (View.BODY, (w.ada.id,)), (View.PATIENT, (w.ada.id,))}),
    ],
    "node": [
        (f"{{ node(id: $patient) {{ ... on Patient {{ {_PERSON} }} }} }}", lambda w: {(View.PATIENT, (w.ada.id,))}),
        (f"{{ node(id: $message) {{ ... on Message {{ {_LETTER} }} }} }}", lambda w: {(View.MESSAGE, (w.ada.id,))}),
        ("{ node(id: $event) { ... on MessageEvent { kind detail } } }", lambda w: {(View.MESSAGE, (w.ada.id,))}),
    ],
}  # fmt: skip


def test_every_field_of_a_query_that_leads_to_a_patient_has_its_ways() -> None:
    patients = {"Patient", "Message", "MessageEvent"}

    def leads(kind: object, passed: frozenset[str]) -> bool:
        named = get_named_type(kind)  # type: ignore[call-overload]
        if named.name in passed:
            return False
        if named.name in patients:
            return True
        kinds = SCHEMA.get_possible_types(named) if named.name == "Node" else [named]
        return any(
            leads(field.type, passed | {named.name}) or each.name in patients
            for each in kinds
            if isinstance(each, GraphQLObjectType)
            for field in each.fields.values()
        )

    assert SCHEMA.query_type is not None
    assert {name for name, field in SCHEMA.query_type.fields.items() if leads(field.type, frozenset())} == set(WAYS)


@pytest.mark.parametrize("executor", ["planned", "graphql-core"])
@pytest.mark.parametrize(
    ("query", "shown"),
    [way for ways in WAYS.values() for way in ways],
    ids=lambda part: part if type(part) is str else "",
)
async def test_what_a_query_shows_is_in_the_trail(
    stack: Stack,
    practice: Practice,
    ward: Ward,
    executor: str,
    query: str,
    shown: Callable[[Ward], set[tuple[View, tuple[UUID, ...]]]],
) -> None:
    client = await stack.client(await stack.api(introspection=True), practice)
    variables = {
        "patient": global_id("Patient", ward.ada.id),
        "message": global_id("Message", ward.message),
        "event": global_id("MessageEvent", ward.event),
    }
    used = {name: value for name, value in variables.items() if f"${name}" in query}
    expected = {(view.value, frozenset(patients)) for view, patients in shown(ward)}
    if executor == "graphql-core":
        query = query.replace("{", "{ __schema { queryType { name } }", 1)
        # It reads a patient before their messages; the planned form reads both at once, which is one view.
        if query.count("patient(id: $patient)"):
            expected |= {("patient", frozenset({ward.ada.id}))}
    declared = f"query ({', '.join(f'${name}: ID!' for name in used)}) " if used else ""
    answer = await client(declared + query, **used)
    assert answer
    await until_seen(stack, practice, expected)


async def test_what_shows_nobody_leaves_nothing(stack: Stack, practice: Practice, ward: Ward) -> None:
    client = await stack.client(await stack.api(), practice, Role.ADMIN)
    await client("{ viewer { subject practice { name } } sendingAccounts { name health { unconfirmed } } }")
    await client('{ deliveryReport(from: "2026-01-01", to: "2026-01-31") { total } }')
    await client("query ($id: ID!) { patient(id: $id) { name } }", id=global_id("Patient", uuid4()))
    await client("query ($id: ID!) { patient(id: $id) { name } }", id=global_id("Patient", ward.bob.id))
    await until_seen(stack, practice, {("patient", frozenset({ward.bob.id}))})


async def test_following_is_in_the_trail_from_its_beginning_to_its_end_and_under_each_ones_name(
    stack: Stack, practice: Practice, ward: Ward, evidence: Evidence
) -> None:
    """Two who ask alike share what they are told; what is looked up for it is nobody's view."""
    query = """subscription ($patient: ID) { messageStatusChanged(patientId: $patient) {
        message { text patient { name } } } }"""
    api = await stack.api()
    async with LiveClient(api, token_for(practice)) as one, LiveClient(api, token_for(practice)) as two:
        asked = await one.start(query, patient=global_id("Patient", ward.ada.id))
        of_all = await two.start(query)
        await one.settle()
        await two.settle()
        await until_seen(stack, practice, {("follow", frozenset({ward.ada.id}))})
        await evidence.of(practice, ward.message, EventKind.OPENED)
        for client, operation in ((one, asked), (two, of_all)):
            assert (await client.answer(operation))["payload"]["data"]["messageStatusChanged"]["message"]
    followed = {("follow", frozenset({ward.ada.id})), ("unfollow", frozenset({ward.ada.id}))}
    await until_seen(stack, practice, followed)
    async with stack.database.tenant(practice.id) as connection:
        rows = await connection.fetch("SELECT view, sum(times) AS times FROM view_entry GROUP BY view")
    assert {row["view"]: row["times"] for row in rows} == {"follow": 2, "unfollow": 2}


async def test_no_word_of_a_patient_or_a_search_is_kept(stack: Stack, practice: Practice, ward: Ward) -> None:
    client = await stack.client(await stack.api(), practice)
    await client('{ patients(search: "lovelace") { nodes { name email } } }')
    await client("{ messages { nodes { subject text } } }")
    everybody = frozenset({ward.ada.id})
    await until_seen(stack, practice, {(view, everybody) for view in ("search", "messages", "body")})
    async with stack.database.tenant(practice.id) as connection:
        kept = await connection.fetchval("SELECT string_agg(to_jsonb(v)::text, '') FROM view_entry v")
    for word in ("lovelace", "mail.example", "letter", "call us"):
        assert word not in kept.lower()


def staff(practice: Practice, subject: str = "ada") -> Principal:
    return Principal(subject, practice.id, Role.STAFF, 0)


async def entries(database: Database, practice: Practice) -> list[tuple[str, list[UUID], int]]:
    async with database.tenant(practice.id) as connection:
        rows = await connection.fetch("SELECT subject, patient_ids, times FROM view_entry ORDER BY first_at, id")
    return [(row["subject"], list(row["patient_ids"]), row["times"]) for row in rows]


async def test_equal_views_are_counted_and_written_once(database: Database, practice: Practice) -> None:
    views, one, two = Views(database), uuid4(), uuid4()
    for _ in range(3):
        views.note(staff(practice), View.MESSAGES, [one])
    views.note(staff(practice), View.MESSAGES, [two])
    views.note(staff(practice, "bob"), View.MESSAGES, [one])
    await views._write()
    assert sorted(await entries(database, practice)) == [("ada", [one, two], 2), ("bob", [one], 1)]
    await views._write()
    assert len(await entries(database, practice)) == 2
    await views.close()
    assert ("ada", [one], 2) in await entries(database, practice)
    assert len(await entries(database, practice)) == 3


async def test_views_of_many_patients_are_parted_and_none_is_left_out(database: Database, practice: Practice) -> None:
    views, patients = Views(database), [uuid4() for _ in range(1_203)]
    views.note(staff(practice), View.PATIENTS, patients)
    await views.close()
    found = await entries(database, practice)
    # All at the same moment, so in no order.
    assert sorted(times for _, _, times in found) == [203, 500, 500]
    assert sorted(patient for _, ids, _ in found for patient in ids) == sorted(patients)


async def test_memory_is_bounded_and_counting_goes_on(
    database: Database, practice: Practice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.views._MOST", 10)
    views = Views(database)
    for _ in range(100):
        views.note(staff(practice), View.PATIENT, [uuid4()])
        assert len(views._seen) <= 10
        await views._write()
    assert sum(times for _, _, times in await entries(database, practice)) == 100


async def test_a_subject_that_postgres_takes_in_no_text_keeps_no_other_out(
    database: Database, practice: Practice
) -> None:
    views, patient = Views(database), uuid4()
    for subject in ("a\x00b", "c\ud800", "dora"):
        views.note(staff(practice, subject), View.PATIENT, [patient])
    await views.close()
    assert sorted(subject for subject, _, _ in await entries(database, practice)) == ["a\ufffdb", "c?", "dora"]


async def test_nothing_more_is_shown_once_too_much_waits_to_be_written(
    stack: Stack, database_url: str, practice: Practice, ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.views._MOST", 10)
    owner = await asyncpg.connect(database_url)
    await owner.execute("REVOKE INSERT (subject) ON view_entry FROM carepost_inbox")
    client = await stack.client(await stack.api(), practice)
    answered: list[str] = []

    async def ask(number: int) -> set[str]:
        """Codes of errors, for somebody new each time: who sees the same again needs no room."""
        subject = f"nurse {number}"
        client.token = make_token(Settings(jwt_secret=JWT_SECRET), practice.id, Role.STAFF, subject, timedelta(hours=1))
        answer = await client.raw("{ messages { nodes { subject } } }")
        if "errors" not in answer:
            answered.append(subject)
        return {error["extensions"]["code"] for error in answer.get("errors", [])}

    numbers = itertools.count()

    async def asked(expected: set[str]) -> bool:
        return await ask(next(numbers)) == expected

    await until(lambda: asked({"UNAVAILABLE"}))
    assert len(answered) < 30
    await owner.execute("GRANT INSERT (subject) ON view_entry TO carepost_inbox")
    await owner.close()
    await until(lambda: asked(set()))

    async def all_written() -> bool:
        return {subject for subject, _, _ in await entries(stack.database, practice)} == set(answered)

    await until(all_written)


async def test_the_trail_tells_deeds_and_views_in_order_and_of_a_patient_all_that_concerns_them(
    stack: Stack, practice: Practice, ward: Ward
) -> None:
    client = await stack.client(await stack.api(), practice)
    rename = "mutation ($input: UpdatePatientInput!) { updatePatient(input: $input) { errors { code } } }"
    await client(rename, input={"patientId": global_id("Patient", ward.bob.id), "name": "Robert"})
    await client("query ($id: ID!) { patient(id: $id) { name } }", id=global_id("Patient", ward.ada.id))
    cancel = "mutation ($input: CancelMessageInput!) { cancelMessage(input: $input) { errors { code } } }"
    await client(cancel, input={"messageId": global_id("Message", ward.message)})
    await until_seen(stack, practice, {("patient", frozenset({ward.ada.id})), ("message", frozenset({ward.ada.id}))})

    async def told(wanted: Wanted) -> list[tuple[str, list[str]]]:
        async with stack.database.tenant(practice.id) as connection:
            shown = [orjson.loads(line(entry)) async for entry in read_trail(connection, practice.id, wanted)]
        assert all(entry["subject"] == "somebody" for entry in shown)
        assert [entry["at"] for entry in shown] == sorted(entry["at"] for entry in shown)
        return [(entry["action"], entry.get("Patient") or entry["Message"]) for entry in shown]

    everything = await told(Wanted())
    assert everything[0] == ("updatePatient", [str(ward.bob.id)])
    assert ("view patient", [str(ward.ada.id)]) in everything
    assert await told(Wanted(patient_id=ward.bob.id)) == [("updatePatient", [str(ward.bob.id)])]
    assert {action for action, _ in await told(Wanted(patient_id=ward.ada.id))} == {"view patient", "view message"}
    assert await told(Wanted(subject="nobody")) == []


def test_whoever_shows_to_many_notes_nothing_for_one() -> None:
    Context(None, many_see=True).saw(View.PATIENT, [uuid4()])  # type: ignore[arg-type]
