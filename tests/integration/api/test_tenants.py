"""No operation of the schema gives anything of another practice, whatever its ids and cursors are.

The schema itself says what there is to call, so a new field is called too.
"""

import itertools
from datetime import UTC, datetime
from typing import Any

from graphql import (
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    get_named_type,
    get_nullable_type,
    is_enum_type,
    is_input_object_type,
    is_leaf_type,
    is_required_argument,
    is_required_input_field,
)

from api.graphql.ids import event_cursor, global_id, key_cursor, live_cursor
from api.graphql.schema import build_schema
from api.roles import Role
from db.ids import uuid7
from db.inbox import NewDelivery, store_deliveries
from db.practices import Practice
from mail.event import EventKind
from mail.ids import DeliveryId
from tests.integration.api.evidence import Evidence, make_messages
from tests.integration.api.sockets import LiveClient
from tests.support.databases import OWN_SEALER
from tests.support.practice import BEGINNING, make_account, make_patient
from tests.support.stack import Stack, token_for

CANARY = "Canary"
SCHEMA = build_schema()._schema
SCALARS: dict[str, Any] = {
    "Boolean": True,
    "Date": "2026-01-01",
    "DateTime": "2026-01-01T00:00:00Z",
    "Int": 5,
    "String": "a@mail.example",
}


def leaves(kind: Any, depth: int = 3) -> str:
    """A selection of everything within some levels that needs no argument."""
    named = get_named_type(kind)
    if is_leaf_type(named):
        return ""
    parts = ["__typename"]
    for name, field in named.fields.items():
        if any(is_required_argument(argument) for argument in field.args.values()):
            continue
        if is_leaf_type(get_named_type(field.type)):
            parts.append(name)
        elif depth:
            parts.append(f"{name} {leaves(field.type, depth - 1)}")
    return "{ " + " ".join(parts) + " }"


def value(kind: Any, name: str, foreign: dict[str, list[str]]) -> Any:
    """A value for an argument; ids and cursors are the other practice's."""
    kind = get_nullable_type(kind)
    if isinstance(kind, GraphQLList):
        return [value(kind.of_type, name, foreign)]
    if isinstance(kind, GraphQLInputObjectType):
        return {
            key: value(field.type, key, foreign)
            for key, field in kind.fields.items()
            if is_required_input_field(field) or named_like_id(key, field.type)
        }
    if named_like_id(name, kind):
        return next(iter(foreign[name]))
    if is_enum_type(kind):
        return next(iter(kind.values))
    return SCALARS[kind.name]


def named_like_id(name: str, kind: Any) -> bool:
    named = get_named_type(kind)
    return named.name == "ID" or name in {"after", "before", "since"}


def touches(field: GraphQLField) -> bool:
    """Whether a field takes an id or a cursor, in an argument or in an input."""

    def holds(name: str, kind: Any) -> bool:
        named = get_named_type(kind)
        if is_input_object_type(named):
            return any(holds(key, each.type) for key, each in named.fields.items())
        return named_like_id(name, kind)

    return any(holds(name, argument.type) for name, argument in field.args.items())


def call(name: str, field: GraphQLField, foreign: dict[str, list[str]]) -> tuple[str, str, dict[str, Any]]:
    """Declarations, call and variables that give a field all its ids and cursors, and what else it requires."""
    chosen = {
        key: argument
        for key, argument in field.args.items()
        if is_required_argument(argument)
        or named_like_id(key, argument.type)
        or is_input_object_type(get_named_type(argument.type))
    }
    declared = ", ".join(f"${key}: {GraphQLNonNull(get_nullable_type(each.type))}" for key, each in chosen.items())
    given = ", ".join(f"{key}: ${key}" for key in chosen)
    variables = {key: value(argument.type, key, foreign) for key, argument in chosen.items()}
    return declared, f"{name}({given}) {leaves(field.type)}", variables


def fields_of(kind: object) -> list[tuple[str, GraphQLField]]:
    assert isinstance(kind, GraphQLObjectType)
    return [(name, field) for name, field in kind.fields.items() if touches(field)]


async def test_every_field_with_an_id_or_cursor_gives_nothing_of_another_practice(
    stack: Stack, practice: Practice, other_practice: Practice, evidence: Evidence
) -> None:
    api = await stack.api()
    patient = await make_patient(stack.database, other_practice, "canary@mail.example", CANARY)
    account = await make_account(stack.database, other_practice)
    [message] = await make_messages(stack.database, other_practice, patient, account, 1)
    await evidence.of(other_practice, message, EventKind.DELIVERED)
    theirs = await stack.client(api, other_practice, Role.ADMIN)
    delivery = DeliveryId(uuid7(datetime.now(UTC)))
    kept = NewDelivery(
        practice_id=other_practice.id,
        id=delivery,
        account_id=account.id,
        provider="sendgrid",
        headers={},
        body=CANARY.encode(),
    )
    await store_deliveries(stack.database.inbox, OWN_SEALER, [kept])
    seen = await theirs("{ messages { liveCursor nodes { events { nodes { id occurredAt } } } } }")
    [their_event] = seen["messages"]["nodes"][0]["events"]["nodes"]
    own = await make_patient(stack.database, practice)
    own_account = await make_account(stack.database, practice)
    [own_message] = await make_messages(stack.database, practice, own, own_account, 1)

    nodes = {
        "Patient": global_id("Patient", patient.id),
        "Message": global_id("Message", message),
        "SendingAccount": global_id("SendingAccount", account.id),
        "MessageEvent": their_event["id"],
        "WebhookDelivery": global_id("WebhookDelivery", delivery),
        "Practice": global_id("Practice", other_practice.id),
    }
    assert {each.name for each in SCHEMA.get_possible_types(SCHEMA.type_map["Node"])} == set(nodes)  # type: ignore[arg-type]
    foreign: dict[str, list[str]] = {
        "id": list(nodes.values()),
        "patientId": [nodes["Patient"]],
        "patientIds": [nodes["Patient"]],
        "messageId": [nodes["Message"]],
        "messageIds": [nodes["Message"]],
        "deliveryId": [nodes["WebhookDelivery"]],
        "accountId": [nodes["SendingAccount"]],
        "after": [key_cursor(patient.id), key_cursor(message), their_event["id"]],
        "since": [seen["messages"]["liveCursor"], live_cursor(BEGINNING)],
    }
    client = await stack.client(api, practice, Role.ADMIN)
    called = set()

    async def check(operation: str, declared: str, body: str, variables: dict[str, Any]) -> None:
        answer = await client.raw(f"{operation} ({declared}) {{ {body} }}", **variables)
        assert CANARY not in str(answer), body
        assert "canary@mail.example" not in str(answer), body
        codes = {error["extensions"]["code"] for error in answer.get("errors", [])}
        assert codes <= {"INVALID_CURSOR"}, (body, answer)
        if operation == "mutation":
            [payload] = answer["data"].values()
            assert "NOT_FOUND" in {error["code"] for error in payload["errors"]}, body
            assert all(part is None for name, part in payload.items() if name not in {"errors", "__typename"}), body
        elif not codes and "$id" in declared:
            assert list(answer["data"].values()) == [None], body

    for operation, kind in (("query", SCHEMA.query_type), ("mutation", SCHEMA.mutation_type)):
        for name, field in fields_of(kind):
            called.add(name)
            ids = [key for key in ("id", "after") if key in field.args]
            for choice in itertools.product(*(foreign[key] for key in ids)):
                chosen = foreign | {key: [each] for key, each in zip(ids, choice, strict=True)}
                await check(operation, *call(name, field, chosen))
    # Lists inside our own patient, with another's cursors and filters.
    for after in [*foreign["after"], event_cursor(datetime(2000, 1, 1, tzinfo=UTC), "x")]:
        [(name, field)] = fields_of(SCHEMA.get_type("Patient"))
        declared, body, variables = call(name, field, foreign | {"after": [after]})
        variables["own"] = global_id("Patient", own.id)
        answer = await client.raw(f"query ($own: ID!, {declared}) {{ patient(id: $own) {{ {body} }} }}", **variables)
        assert CANARY not in str(answer)

    # And whatever else our own objects give by an id or a cursor.
    mine = {"Patient": own.id, "SendingAccount": own_account.id, "Message": own_message, "Practice": practice.id}
    for kind, key in mine.items():
        for name, field in fields_of(SCHEMA.get_type(kind)):
            for after in foreign["after"]:
                declared, body, variables = call(name, field, foreign | {"after": [after]})
                variables["own"] = global_id(kind, key)
                query = f"query ($own: ID!, {declared}) {{ node(id: $own) {{ ... on {kind} {{ {body} }} }} }}"
                answer = await client.raw(query, **variables)
                assert CANARY not in str(answer), query
                codes = {error["extensions"]["code"] for error in answer.get("errors", [])}
                assert codes <= {"INVALID_CURSOR"}, answer

    async with LiveClient(api, token_for(practice, Role.ADMIN)) as live:
        for name, field in fields_of(SCHEMA.subscription_type):
            called.add(name)
            for since in foreign["since"]:
                declared, body, variables = call(name, field, foreign | {"since": [since]})
                asked = await live.start(f"subscription ({declared}) {{ {body} }}", **variables)
                await live.settle()
                await evidence.of(other_practice, message, EventKind.OPENED)
                await live.settle()
                assert live.waiting(asked) == 0
    assert called == {
        "node", "patient", "patients", "message", "messages", "sendMessage", "sendMessages", "resendMessage",
        "cancelMessage", "updatePatient", "updateSendingAccount", "rotateWebhookSecret", "messageStatusChanged",
        "webhookDeliveries", "replayWebhookDelivery",
    }  # fmt: skip
    async with stack.database.tenant(other_practice.id) as connection:
        assert await connection.fetchval("SELECT count(*) FROM audit_entry") == 0
        assert await connection.fetchval("SELECT name FROM patient") == CANARY


# What a test of isolation gives another practice's value for, by its name; anything else is of a type in SCALARS.
FOREIGN = {"id", "patientId", "patientIds", "messageId", "messageIds", "accountId", "deliveryId", "after", "since"}


def test_every_id_and_cursor_that_the_schema_takes_has_a_foreign_value() -> None:
    taken: dict[str, str] = {}

    def note(place: str, name: str, kind: Any) -> None:
        named = get_named_type(kind)
        if named_like_id(name, kind):
            taken[name] = place
        elif not is_input_object_type(named) and not is_enum_type(named):
            assert named.name in SCALARS, f"{place}: say what a test gives for {named.name}"

    for type_ in SCHEMA.type_map.values():
        if type_.name.startswith("__"):
            continue
        for field_name, field in getattr(type_, "fields", {}).items():
            for name, argument in getattr(field, "args", {}).items():
                note(f"{type_.name}.{field_name}", name, argument.type)
            if is_input_object_type(type_):
                note(type_.name, field_name, field.type)
    assert set(taken) == FOREIGN, taken
