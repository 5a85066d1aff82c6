"""Patients and accounts by GraphQL: created, changed, refused by field."""

import asyncio
from typing import Any
from uuid import uuid4

from api.graphql.ids import global_id
from api.roles import Role
from db.practices import Practice
from mail.providers import PROVIDERS
from tests.support.practice import make_account, make_patient
from tests.support.stack import GraphQLClient, Stack

ACCOUNT = (
    "id kind provider name fromAddress fromName replyTo isDefault tracked webhookUrl capabilities { delivery opens }"
)
CREATE_PATIENT = """mutation ($input: CreatePatientInput!) { createPatient(input: $input) {
  patient { id name email openTracking emailHealth } errors { field message code } } }"""
UPDATE_PATIENT = """mutation ($input: UpdatePatientInput!) { updatePatient(input: $input) {
  patient { id name email openTracking emailHealth } errors { field message code } } }"""
CREATE_ACCOUNT = f"""mutation ($input: CreateSendingAccountInput!) {{ createSendingAccount(input: $input) {{
  account {{ {ACCOUNT} }} webhookUrl errors {{ field message code }} }} }}"""
UPDATE_ACCOUNT = f"""mutation ($input: UpdateSendingAccountInput!) {{ updateSendingAccount(input: $input) {{
  account {{ {ACCOUNT} }} errors {{ field message code }} }} }}"""
INJECTIONS = ["a\r\nBcc: x@evil.example", "a\nb", "a\rb", "a\x00b", "a\u2028b", "a\u2029b", "a\u0085b", "a\x0bb"]
SENDGRID: dict[str, Any] = {
    "kind": "ESP",
    "provider": "sendgrid",
    "name": "Letters",
    "fromAddress": "hello@northgate.example",
    "credentials": [{"name": "api_key", "value": "SG.abc"}],
}


def refusals(payload: dict[str, Any]) -> list[tuple[str | None, str]]:
    assert all(error["message"] for error in payload["errors"])
    return [(error["field"], error["code"]) for error in payload["errors"]]


async def ask(client: GraphQLClient, query: str, **wish: Any) -> dict[str, Any]:
    [payload] = (await client(query, input=wish)).values()
    answer: dict[str, Any] = payload
    return answer


async def count(stack: Stack, practice: Practice, table: str) -> int:
    async with stack.database.tenant(practice.id) as connection:
        found: int = await connection.fetchval(f"SELECT count(*) FROM {table}")
    return found


async def test_a_patient_is_added_and_changed(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice)
    created = await ask(client, CREATE_PATIENT, name=" Ann Example ", email="Ann@MAIL.example")
    key = created["patient"]["id"]
    patient = {
        "id": key,
        "name": "Ann Example",
        "email": "Ann@mail.example",
        "openTracking": True,
        "emailHealth": "UNKNOWN",
    }
    assert created == {"patient": patient, "errors": []}
    changed = await ask(client, UPDATE_PATIENT, patientId=key, openTracking=False)
    assert changed == {"patient": patient | {"openTracking": False}, "errors": []}
    renamed = await ask(client, UPDATE_PATIENT, patientId=key, name="Ann Other", email="ann@other.example")
    assert renamed["patient"] == patient | {"openTracking": False, "name": "Ann Other", "email": "ann@other.example"}
    async with stack.database.tenant(practice.id) as connection:
        rows = await connection.fetch("SELECT action, subject FROM audit_entry ORDER BY at, id")
    assert [tuple(row) for row in rows] == [
        ("createPatient", "somebody"),
        ("updatePatient", "somebody"),
        ("updatePatient", "somebody"),
    ]


async def test_what_is_wrong_with_a_patient_is_said_by_field(
    stack: Stack, practice: Practice, other_practice: Practice
) -> None:
    client = await stack.client(await stack.api(), practice)
    patient = await make_patient(stack.database, practice)
    stranger = await make_patient(stack.database, other_practice)
    good = {"name": "Ann", "email": "ann@mail.example"}
    cases: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
        ({"name": " "}, [("name", "REQUIRED")]),
        ({"name": "a" * 201}, [("name", "TOO_LONG")]),
        ({"email": "nobody"}, [("email", "INVALID_ADDRESS")]),
        ({"email": ""}, [("email", "INVALID_ADDRESS")]),
        ({"email": "a@b@c.example"}, [("email", "INVALID_ADDRESS")]),
        ({"email": "Ann <ann@mail.example>"}, [("email", "INVALID_ADDRESS")]),
        ({"email": "a" * 400 + "@mail.example"}, [("email", "TOO_LONG")]),
        ({"name": "", "email": "x"}, [("name", "REQUIRED"), ("email", "INVALID_ADDRESS")]),
        *(({"name": text}, [("name", "INVALID_CHARACTER")]) for text in INJECTIONS),
        *(({"email": f"{text}@mail.example"}, [("email", "INVALID_CHARACTER")]) for text in INJECTIONS),
    ]
    for change, expected in cases:
        created = await ask(client, CREATE_PATIENT, **(good | change))
        assert (created["patient"], refusals(created)) == (None, expected), change
        updated = await ask(client, UPDATE_PATIENT, patientId=global_id("Patient", patient.id), **change)
        assert (updated["patient"], refusals(updated)) == (None, expected), change
    for key in (global_id("Patient", stranger.id), global_id("Patient", uuid4()), "x"):
        updated = await ask(client, UPDATE_PATIENT, patientId=key, name="Mallory")
        assert (updated["patient"], refusals(updated)) == (None, [("patientId", "NOT_FOUND")])
    assert await count(stack, practice, "patient") == 1
    assert (await client("{ patients { nodes { name } } }"))["patients"]["nodes"] == [{"name": "Pat Example"}]


async def test_accounts_of_every_kind_are_set_up_and_the_first_is_the_default(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice, Role.ADMIN)
    esp = await ask(client, CREATE_ACCOUNT, **SENDGRID, fromName="Northgate", replyTo="desk@northgate.example")
    account = esp["account"]
    assert esp == {
        "account": {
            "id": account["id"],
            "kind": "ESP",
            "provider": "sendgrid",
            "name": "Letters",
            "fromAddress": "hello@northgate.example",
            "fromName": "Northgate",
            "replyTo": "desk@northgate.example",
            "isDefault": True,
            "tracked": True,
            "webhookUrl": account["webhookUrl"],
            "capabilities": {"delivery": True, "opens": True},
        },
        "webhookUrl": account["webhookUrl"],
        "errors": [],
    }
    assert account["webhookUrl"].startswith("http://carepost.example/webhooks/sendgrid/")
    smtp = await ask(
        client,
        CREATE_ACCOUNT,
        kind="SMTP",
        name="Own server",
        fromAddress="hello@northgate.example",
        credentials=[{"name": "host", "value": "mail.northgate.example"}],
        isDefault=True,
    )
    assert smtp["errors"] == []
    assert (smtp["webhookUrl"], smtp["account"]["webhookUrl"], smtp["account"]["tracked"]) == (None, None, False)
    gmail = await ask(
        client,
        CREATE_ACCOUNT,
        kind="GMAIL",
        name="Gmail",
        fromAddress="northgate@gmail.example",
        credentials=[{"name": "username", "value": "n@gmail.example"}, {"name": "app_password", "value": "abcd"}],
    )
    assert gmail["errors"] == []
    listed = (await client("{ sendingAccounts { name isDefault } }"))["sendingAccounts"]
    assert listed == [
        {"name": "Own server", "isDefault": True},
        {"name": "Gmail", "isDefault": False},
        {"name": "Letters", "isDefault": False},
    ]
    changed = await ask(client, UPDATE_ACCOUNT, accountId=account["id"], name="Post", replyTo="", isDefault=True)
    assert changed["errors"] == []
    assert changed["account"] == account | {"name": "Post", "replyTo": None, "isDefault": True}


async def test_what_is_wrong_with_an_account_is_said_by_field(
    stack: Stack, practice: Practice, other_practice: Practice
) -> None:
    client = await stack.client(await stack.api(), practice, Role.ADMIN)
    account = await make_account(stack.database, practice)
    theirs = await make_account(stack.database, other_practice)
    cases: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
        ({"name": ""}, [("name", "REQUIRED")]),
        ({"fromAddress": "nobody"}, [("fromAddress", "INVALID_ADDRESS")]),
        ({"replyTo": "nobody"}, [("replyTo", "INVALID_ADDRESS")]),
        ({"credentials": []}, [("credentials.api_key", "INVALID_VALUE")]),
        ({"credentials": [{"name": "api_key", "value": "a\r\nb"}]}, [("credentials.api_key", "INVALID_VALUE")]),
        (
            {"credentials": [*SENDGRID["credentials"], {"name": "base_url", "value": "http://169.254.169.254"}]},
            [("credentials.base_url", "INVALID_VALUE")],
        ),
        *(({"name": text}, [("name", "INVALID_CHARACTER")]) for text in INJECTIONS),
        *(({"fromName": text}, [("fromName", "INVALID_CHARACTER")]) for text in INJECTIONS),
        *(({"replyTo": f"{text}@a.example"}, [("replyTo", "INVALID_CHARACTER")]) for text in INJECTIONS),
        *(({"fromAddress": f"{text}@a.example"}, [("fromAddress", "INVALID_CHARACTER")]) for text in INJECTIONS),
    ]
    key = global_id("SendingAccount", account.id)
    for change, expected in cases:
        created = await ask(client, CREATE_ACCOUNT, **(SENDGRID | change))
        assert (created["account"], refusals(created)) == (None, expected), change
        updated = await ask(client, UPDATE_ACCOUNT, accountId=key, **change)
        assert (updated["account"], refusals(updated)) == (None, expected), change
    for wish, expected in [
        (SENDGRID | {"provider": "mailcarrier"}, [("provider", "INVALID_VALUE")]),
        (SENDGRID | {"provider": None}, [("provider", "INVALID_VALUE")]),
        (SENDGRID | {"kind": "SMTP"}, [("provider", "INVALID_VALUE")]),
        (SENDGRID | {"webhookSecret": "junk"}, [("webhookSecret", "INVALID_VALUE")]),
        (SENDGRID | {"kind": "SMTP", "provider": None, "credentials": []}, [("credentials.host", "INVALID_VALUE")]),
    ]:
        created = await ask(client, CREATE_ACCOUNT, **wish)
        assert (created["account"], refusals(created)) == (None, expected), wish
    rotate = """mutation ($input: RotateWebhookSecretInput!) {
      rotateWebhookSecret(input: $input) { errors { field message code } } }"""
    for other in (global_id("SendingAccount", theirs.id), global_id("SendingAccount", uuid4()), "x"):
        updated = await ask(client, UPDATE_ACCOUNT, accountId=other, name="Mine")
        assert (updated["account"], refusals(updated)) == (None, [("accountId", "NOT_FOUND")])
        assert refusals(await ask(client, rotate, accountId=other)) == [("accountId", "NOT_FOUND")]
    assert await count(stack, practice, "sending_account") == 1
    assert await count(stack, practice, "audit_entry") == 0


async def test_accounts_made_the_default_at_once_leave_one_default(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice, Role.ADMIN)
    answers = await asyncio.gather(
        *(ask(client, CREATE_ACCOUNT, **SENDGRID, isDefault=number % 2 == 0) for number in range(8))
    )
    assert [answer["errors"] for answer in answers] == [[]] * 8
    keys = [answer["account"]["id"] for answer in answers]
    changes = await asyncio.gather(*(ask(client, UPDATE_ACCOUNT, accountId=key, isDefault=True) for key in keys))
    assert [change["errors"] for change in changes] == [[]] * 8
    listed = (await client("{ sendingAccounts { isDefault } }"))["sendingAccounts"]
    assert [account["isDefault"] for account in listed] == [True] + [False] * 7


async def test_credentials_are_never_shown_again(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice, Role.ADMIN)
    await ask(client, CREATE_ACCOUNT, **SENDGRID)
    fields = await client('{ __type(name: "SendingAccount") { fields { name } } }')
    names = {field["name"] for field in fields["__type"]["fields"]}
    assert not {name for name in names if "credential" in name.lower() or "secret" in name.lower()}
    assert "SG.abc" not in str(await client(f"{{ sendingAccounts {{ {ACCOUNT} }} }}"))


async def test_an_account_comes_with_what_to_do_at_its_esp_and_the_password_once(
    stack: Stack, practice: Practice
) -> None:
    api = await stack.api()
    client = await stack.client(api, practice, Role.ADMIN)
    create = """mutation ($input: CreateSendingAccountInput!) { createSendingAccount(input: $input) {
      account { id setUpSteps } webhookUrl setUpSteps warnings errors { field } } }"""
    wish = SENDGRID | {"provider": "postmark", "credentials": [{"name": "server_token", "value": "abc"}]}
    created = await ask(client, create, **wish)
    assert created["errors"] == []
    full = created["webhookUrl"]
    plain = "http://" + full.partition("@")[2]
    assert full.startswith("http://carepost:")
    [step] = [step for step in created["setUpSteps"] if full in step]
    assert len(created["setUpSteps"]) == len(PROVIDERS["postmark"].set_up.steps)
    assert created["account"]["setUpSteps"] == [each.replace(full, plain) for each in created["setUpSteps"]]
    assert step.replace(full, plain) in created["account"]["setUpSteps"]
    assert created["warnings"] == [PROVIDERS["postmark"].capabilities.tracking_warning]
    quiet = await ask(client, create, **SENDGRID)
    assert quiet["warnings"] == []
    refused = await ask(client, create, **(SENDGRID | {"name": ""}))
    assert (refused["setUpSteps"], refused["warnings"]) == ([], [])
    staff = await stack.client(api, practice, Role.STAFF)
    answer = await staff.raw("{ sendingAccounts { name setUpSteps } }")
    assert {error["extensions"]["code"] for error in answer["errors"]} == {"FORBIDDEN"}
    assert [account["setUpSteps"] for account in answer["data"]["sendingAccounts"]] == [None, None]


async def test_a_front_end_can_build_the_form_of_every_provider(stack: Stack, practice: Practice) -> None:
    client = await stack.client(await stack.api(), practice)
    fields = """name label setUpSteps credentialFields { name label required secret choices } capabilities {
      delivery opens machineOpens trackingSwitch metadata idempotency proof asking { perSecond days needs }
      trackingWarning }"""
    providers = {each["name"]: each for each in (await client(f"{{ providers {{ {fields} }} }}"))["providers"]}
    assert list(providers) == list(PROVIDERS)
    assert any("{url}" in step for step in providers["postmark"]["setUpSteps"])
    assert providers["postmark"]["credentialFields"][:2] == [
        {"name": "server_token", "label": "Server API token", "required": True, "secret": True, "choices": []},
        {"name": "message_stream", "label": "Message stream", "required": False, "secret": False, "choices": []},
    ]
    assert providers["postmark"]["capabilities"] == {
        "delivery": True,
        "opens": True,
        "machineOpens": False,
        "trackingSwitch": False,
        "metadata": True,
        "idempotency": False,
        "proof": "PASSWORD",
        "asking": {"perSecond": 5, "days": 45, "needs": ""},
        "trackingWarning": PROVIDERS["postmark"].capabilities.tracking_warning,
    }
    assert providers["sendgrid"]["capabilities"]["asking"] is None
    assert providers["sendgrid"]["capabilities"]["proof"] == "SIGNATURE"
