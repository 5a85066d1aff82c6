"""Reading by GraphQL: nodes, pages that don't shift, filters and the report."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from api.graphql.ids import event_cursor, global_id
from api.roles import Role
from db.practices import Practice
from mail.event import EventKind
from mail.status import AccountKind
from tests.integration.api.evidence import Evidence, make_messages
from tests.support.practice import make_account, make_delivery, make_message, make_patient
from tests.support.stack import GraphQLClient, Stack

NODE = """query ($id: ID!) { node(id: $id) { __typename id
  ... on Patient { name } ... on Message { subject } ... on SendingAccount { provider } ... on Practice { timeZone }
  ... on MessageEvent { kind source machine detail } } }"""


async def pages(client: GraphQLClient, query: str, name: str, **variables: Any) -> list[list[Any]]:
    """All pages of a list, by its cursors."""
    found, after = [], None
    while True:
        connection = (await client(query, after=after, **variables))[name]
        edges = connection["edges"]
        info = connection["pageInfo"]
        assert info["hasPreviousPage"] is (after is not None)
        assert (info["startCursor"], info["endCursor"]) == (
            (edges[0]["cursor"], edges[-1]["cursor"]) if edges else (None, None)
        )
        found.append([edge["node"] for edge in edges])
        if not info["hasNextPage"]:
            return found
        after = info["endCursor"]


PAGE_INFO = "pageInfo { hasNextPage hasPreviousPage startCursor endCursor }"


async def test_node_finds_every_type_by_its_id(stack: Stack, practice: Practice, evidence: Evidence) -> None:
    client = await stack.client(await stack.api(), practice)
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    [message] = await make_messages(stack.database, practice, patient, account, 1)
    await evidence.of(practice, message, EventKind.DELIVERED)
    read = "{ messages { nodes { events { nodes { id } } } } viewer { practice { id } } }"
    answer = await client(read)
    event_id = answer["messages"]["nodes"][0]["events"]["nodes"][0]["id"]
    expected: dict[str, dict[str, Any]] = {
        global_id("Patient", patient.id): {"__typename": "Patient", "name": "Pat Example"},
        global_id("Message", message): {"__typename": "Message", "subject": "Letter 0"},
        global_id("SendingAccount", account.id): {"__typename": "SendingAccount", "provider": "sendgrid"},
        answer["viewer"]["practice"]["id"]: {"__typename": "Practice", "timeZone": "Europe/Berlin"},
        event_id: {
            "__typename": "MessageEvent",
            "kind": "DELIVERED",
            "source": "WEBHOOK",
            "machine": False,
            "detail": "",
        },
    }
    delivery = await make_delivery(stack.database, practice, account.id)
    expected[global_id("WebhookDelivery", delivery)] = {"__typename": "WebhookDelivery"}
    admin = await stack.client(await stack.api(), practice, Role.ADMIN)
    for key, node in expected.items():
        assert (await admin(NODE, id=key))["node"] == {**node, "id": key}
    implementing = await client('{ __type(name: "Node") { possibleTypes { name } } }')
    names = {each["name"] for each in implementing["__type"]["possibleTypes"]}
    assert names == {node["__typename"] for node in expected.values()}


async def test_an_id_of_nothing_is_null(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice)
    query = "query ($id: ID!) { node(id: $id) { id } patient(id: $id) { id } message(id: $id) { id } }"
    kinds = [("Patient", "x"), ("Query", "1"), ("MessageEvent", "/"), ("MessageEvent", "x/y")]
    made = [global_id(kind, key) for kind, key in [*kinds, ("MessageEvent", f"{'0' * 32}/\x00")]]
    for key in (*made, "", "x", "é", "=", "UGF0aWVudA", "A" * 10_000):
        assert await client(query, id=key) == {"node": None, "patient": None, "message": None}, key


async def test_pages_of_messages_do_not_shift_when_new_ones_come(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice)
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    start = datetime.now(UTC) - timedelta(hours=1)
    messages = [
        await make_message(
            stack.database, practice, patient, account, at=start + timedelta(minutes=number), subject=str(number)
        )
        for number in range(7)
    ]
    newest_first = [global_id("Message", message) for message in reversed(messages)]
    query = f"""query ($after: String) {{ messages(first: 3, after: $after) {{
      edges {{ cursor node {{ id }} }} {PAGE_INFO} }} }}"""
    first = (await client(query))["messages"]
    await make_message(stack.database, practice, patient, account)
    second = (await client(query, after=first["pageInfo"]["endCursor"]))["messages"]
    third = (await client(query, after=second["pageInfo"]["endCursor"]))["messages"]
    read = [edge["node"]["id"] for page in (first, second, third) for edge in page["edges"]]
    assert read == newest_first
    assert [page["pageInfo"]["hasNextPage"] for page in (first, second, third)] == [True, True, False]
    of_patient = (
        "query ($id: ID!, $after: String) { patient(id: $id) { messages(first: 4, after: $after) "
        "{ nodes { id } pageInfo { endCursor } } } }"
    )
    key = global_id("Patient", patient.id)
    page = (await client(of_patient, id=key))["patient"]["messages"]
    rest = (await client(of_patient, id=key, after=page["pageInfo"]["endCursor"]))["patient"]["messages"]
    assert [node["id"] for node in [*page["nodes"], *rest["nodes"]]][1:] == newest_first
    assert (await client("{ messages(first: 0) { nodes { id } } }"))["messages"]["nodes"] == []


async def test_patients_are_paged_by_name_and_searched(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice)
    names = ["ann", "Ann", "Bob", "Zoë", "émile", "carl%_", "Ödön"]
    for number, name in enumerate(names):
        await make_patient(stack.database, practice, f"p{number}@mail.example", name)
    query = f"""query ($after: String, $search: String!) {{ patients(search: $search, first: 2, after: $after) {{
      edges {{ cursor node {{ name }} }} {PAGE_INFO} }} }}"""
    found = await pages(client, query, "patients", search="")
    assert [len(page) for page in found] == [2, 2, 2, 1]
    assert sorted(node["name"] for page in found for node in page) == sorted(names)

    async def search(text: str) -> list[str]:
        return [node["name"] for page in await pages(client, query, "patients", search=text) for node in page]

    assert sorted(await search("ANN")) == ["Ann", "ann"]
    assert await search("p2@MAIL") == ["Bob"]
    assert await search("ödÖn") == ["Ödön"]
    assert await search("%_") == ["carl%_"]
    assert await search("q\x00") == []
    assert await search("' OR true --") == []


async def test_messages_are_filtered_by_status_account_patient_and_time(
    stack: Stack, practice: Practice, evidence: Evidence
) -> None:
    client = await stack.client(await stack.api(), practice)
    ann, bob = [await make_patient(stack.database, practice, f"{name}@mail.example") for name in ("ann", "bob")]
    esp, smtp = (
        await make_account(stack.database, practice),
        await make_account(stack.database, practice, AccountKind.SMTP),
    )
    old = datetime.now(UTC) - timedelta(days=3)
    first = await make_message(stack.database, practice, ann, esp, at=old)
    second = await make_message(stack.database, practice, bob, esp)
    third = await make_message(stack.database, practice, ann, smtp)
    await evidence.of(practice, first, EventKind.BOUNCED)
    await evidence.of(practice, second, EventKind.OPENED)
    await evidence.of(practice, third, EventKind.DELIVERED)
    names = {global_id("Message", first): 1, global_id("Message", second): 2, global_id("Message", third): 3}
    query = "query ($filter: MessageFilter) { messages(filter: $filter) { nodes { id } } }"

    async def matching(**wanted: Any) -> list[int]:
        return sorted(names[node["id"]] for node in (await client(query, filter=wanted))["messages"]["nodes"])

    assert await matching() == [1, 2, 3]
    assert await matching(statuses=["NOT_DELIVERED"]) == [1]
    assert await matching(statuses=["SENT"]) == [3]
    assert await matching(statuses=["DELIVERED"]) == []
    assert await matching(statuses=["OPENED", "NOT_DELIVERED"]) == [1, 2]
    assert await matching(accountId=global_id("SendingAccount", esp.id)) == [1, 2]
    assert await matching(patientId=global_id("Patient", ann.id)) == [1, 3]
    assert await matching(patientId=global_id("Message", ann.id)) == []
    yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    assert await matching(queuedFrom=yesterday) == [2, 3]
    assert await matching(queuedTo=yesterday) == [1]
    assert await matching(queuedFrom=old.isoformat(), queuedTo=yesterday, statuses=["NOT_DELIVERED"]) == [1]


async def test_evidence_is_paged_in_the_order_in_which_it_happened(
    stack: Stack, practice: Practice, evidence: Evidence
) -> None:
    client = await stack.client(await stack.api(), practice)
    patient = await make_patient(stack.database, practice)
    account = await make_account(stack.database, practice)
    [message] = await make_messages(stack.database, practice, patient, account, 1)
    kinds = [EventKind.ACCEPTED, EventKind.DEFERRED, EventKind.DELIVERED, EventKind.OPENED, EventKind.CLICKED]
    for kind in kinds:
        await evidence.of(practice, message, kind)
    query = f"""query ($id: ID!, $after: String) {{ message(id: $id) {{ events(first: 2, after: $after) {{
      edges {{ cursor node {{ kind }} }} {PAGE_INFO} }} }} }}"""
    key, found, after = global_id("Message", message), [], None
    for _ in range(3):
        connection = (await client(query, id=key, after=after))["message"]["events"]
        found += [edge["node"]["kind"] for edge in connection["edges"]]
        after = connection["pageInfo"]["endCursor"]
    assert found == [kind.name for kind in kinds]
    assert connection["pageInfo"]["hasNextPage"] is False
    early, late = datetime.min.replace(tzinfo=timezone(timedelta(hours=14))), datetime.max.replace(tzinfo=UTC)
    assert (await client(query, id=key, after=event_cursor(late, "k")))["message"]["events"]["edges"] == []
    for bad in (event_cursor(early, "k"), event_cursor(late, "\x00"), event_cursor(datetime.max, "k"), "x"):
        answer = await client.raw(query, id=key, after=bad)
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["INVALID_CURSOR"], bad


async def test_the_report_counts_each_status_by_days_of_the_practice(
    stack: Stack, practice: Practice, evidence: Evidence
) -> None:
    client = await stack.client(await stack.api(), practice)
    patient = await make_patient(stack.database, practice)
    esp, smtp = (
        await make_account(stack.database, practice),
        await make_account(stack.database, practice, AccountKind.SMTP),
    )
    # In Berlin these are the last minute of 30 June and the first of 1 July.
    june = await make_message(stack.database, practice, patient, esp, at=datetime(2026, 6, 30, 21, 59, 30, tzinfo=UTC))
    july = [
        await make_message(
            stack.database, practice, patient, account, at=datetime(2026, 6, 30, 22, 0, number, tzinfo=UTC)
        )
        for number, account in enumerate([esp, esp, smtp, esp])
    ]
    kinds = [EventKind.DELIVERED, EventKind.BOUNCED, EventKind.DELIVERED]
    for message, kind in zip(july, kinds, strict=False):
        await evidence.of(practice, message, kind)
    await evidence.of(practice, june, EventKind.OPENED)
    query = """query ($f: Date!, $t: Date!) {
      deliveryReport(from: $f, to: $t) { from to total rows { status label count } } }"""
    report = (await client(query, f="2026-07-01", t="2026-07-01"))["deliveryReport"]
    assert (report["from"], report["to"], report["total"]) == ("2026-07-01", "2026-07-01", 4)
    assert [(row["status"], row["label"], row["count"]) for row in report["rows"]] == [
        ("QUEUED", "Queued", 1),
        ("CANCELLED", "Cancelled", 0),
        ("FAILED", "Not sent", 0),
        ("SENT", "Sent", 1),
        ("DELIVERED", "Delivered", 1),
        ("OPENED", "Opened", 0),
        ("NOT_DELIVERED", "Not delivered", 1),
    ]
    assert (await client(query, f="2026-06-30", t="2026-07-01"))["deliveryReport"]["total"] == 5
    assert (await client(query, f="2026-06-30", t="2026-06-30"))["deliveryReport"]["total"] == 1
