"""`carepost doctor` finds what is wrong with an account by real connections, and says what to do."""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.graphql.ids import global_id
from carepost.chosen import Choice, chosen_accounts
from carepost.config import ConfigError, Settings
from carepost.doctor.esp import check_clock
from carepost.doctor.run import Doctor
from carepost.sandbox import smtp
from carepost.sandbox.smtp import Credentials, SmtpOptions
from carepost.sandbox.vendors.sendgrid.signing import SIGNATURE_HEADER, TIMESTAMP_HEADER, SigningKey
from db.accounts import Account, update_account
from db.practices import Practice
from db.sealing import Sealer
from mail.status import AccountKind
from tests.acceptance.processes import carepost
from tests.integration.doctor.names import answering
from tests.support.practice import make_account
from tests.support.stack import Stack, serving_app

SECRET_KEY = "the secret key of the tests: long enough to be taken"
WITHOUT_COMMA = "a secret key of these processes which is long enough"
"""As it can stand in the environment."""
WELL: Mapping[str, Sequence[str]] = {
    "northgate.example": ["other", "v=spf1 include:_spf.northgate.example ~all"],
    "_spf.northgate.example": ["v=spf1 include:sendgrid.net ~all"],
    "s1._domainkey.northgate.example": ["k=rsa; p=MIIB"],
    "s2._domainkey.northgate.example": ["k=rsa; p=MIIB"],
    "_dmarc.northgate.example": ["v=DMARC1; p=reject"],
}


@dataclass
class SendGridHouse:
    """SendGrid's pages for keys and for testing a webhook; the test is signed by `key`."""

    key: SigningKey
    scopes: Sequence[str] = ("mail.send",)
    status: int = 200
    silent: bool = False

    async def scopes_of(self, request: Request) -> Response:
        return JSONResponse({"scopes": list(self.scopes)}, self.status)

    async def test(self, request: Request) -> Response:
        url = (await request.json())["url"]
        body = orjson.dumps([{"event": "delivered", "email": "a@b.example", "timestamp": 1, "sg_message_id": "test"}])
        if not self.silent:
            headers = {SIGNATURE_HEADER: self.key.sign("1", body), TIMESTAMP_HEADER: "1"}
            async with httpx2.AsyncClient() as http:
                await http.post(url, content=body, headers=headers)
        return Response(status_code=204)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        routes = [
            Route("/v3/scopes", self.scopes_of),
            Route("/v3/user/webhooks/event/test", self.test, methods=["POST"]),
        ]
        async with serving_app(Starlette(routes=routes)) as url:
            yield url


class Patient:
    """A practice whose accounts are examined."""

    def __init__(self, stack: Stack, practice: Practice) -> None:
        self.stack = stack
        self.practice = practice

    async def examined(
        self, public_url: str, names: Mapping[str, Sequence[str]] = WELL, patience: timedelta = timedelta(seconds=20)
    ) -> dict[str, tuple[str, str]]:
        """Outcome and text of each check of the only account; of several of one name the last."""
        async with answering(names) as dns_server:
            settings = Settings(
                database_url=self.stack.database_url,
                secret_key=(SECRET_KEY,),
                public_url=public_url,
                allowed_networks=(ip_network("127.0.0.0/8"),),
                dns_server=dns_server,
            )
            async with Doctor(settings, patience=patience) as doctor:
                [chosen] = await doctor.accounts(Choice())
                checks = await doctor.examine(chosen)
        assert "SG.secret" not in str(checks)
        return {check.name: (check.outcome.value, check.text) for check in checks}

    async def sendgrid(self, url: str, secrets: Sequence[str]) -> Account:
        credentials = {"api_key": "SG.secret", "base_url": url}
        return await make_account(self.stack.database, self.practice, credentials=credentials, secrets=secrets)


@pytest.fixture
def patient(stack: Stack, practice: Practice) -> Patient:
    return Patient(stack, practice)


async def test_an_account_that_is_well_passes_every_check(patient: Patient) -> None:
    key = SigningKey.generate()
    api = await patient.stack.api()
    async with SendGridHouse(key).running() as url:
        await patient.sendgrid(url, [key.public_key])
        found = await patient.examined(api)
    assert {name: outcome for name, (outcome, _) in found.items()} == dict.fromkeys(
        ["Credentials", "Key", "Clock", "Webhook URL", "Webhook test", "DMARC", "SPF", "DKIM", "Last event", "Health"],
        "ok",
    )
    assert found["Webhook test"][1] == "SendGrid posted one, and its proof holds."
    assert found["Health"][1] == "Nothing is wrong that we know of."


async def test_a_wrong_secret_and_a_wrong_key_are_told_apart(patient: Patient) -> None:
    api = await patient.stack.api()
    house = SendGridHouse(SigningKey.generate(), scopes=["user.profile.read"])
    async with house.running() as url:
        await patient.sendgrid(url, [SigningKey.generate().public_key])
        found = await patient.examined(api)
        house.status = 401
        later = await patient.examined(api)
    assert found["Webhook test"] == (
        "failed",
        "It came and was refused: the verification key is wrong. Enter it anew.",
    )
    assert found["Key"] == ("failed", "SendGrid knows the key, but it lacks the permission Mail Send.")
    assert later["Key"][0] == "failed"


def test_a_clock_is_held_against_the_date_of_an_answer() -> None:
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)

    def outcomes(date: str) -> list[str]:
        return [check.outcome.value for check in check_clock("SendGrid", date, noon)]

    assert outcomes("Mon, 02 Mar 2026 12:01:00 GMT") == ["ok"]
    assert outcomes("Mon, 02 Mar 2026 11:58:00 GMT") == ["warning"]
    assert outcomes("Mon, 02 Mar 2026 12:07:00 GMT") == ["failed"]
    assert outcomes("") == outcomes("yesterday") == []


async def test_a_test_that_never_comes_and_a_url_that_leads_elsewhere_fail(patient: Patient) -> None:
    key = SigningKey.generate()
    api = await patient.stack.api()
    async with SendGridHouse(key, silent=True).running() as url:
        await patient.sendgrid(url, [key.public_key])
        found = await patient.examined(api, patience=timedelta(milliseconds=300))
        assert found["Webhook test"][0] == "failed"
        elsewhere = await patient.examined(url)
        nowhere = await patient.examined("http://127.0.0.1:1")
    assert elsewhere["Webhook URL"] == (
        "failed",
        "It answers HTTP 404: see that PUBLIC_URL leads to Carepost's API.",
    )
    assert nowhere["Webhook URL"][0] == "failed"


async def test_hints_on_the_domain_are_never_failures(patient: Patient) -> None:
    key = SigningKey.generate()
    api = await patient.stack.api()
    async with SendGridHouse(key).running() as url:
        await patient.sendgrid(url, [key.public_key])
        found = await patient.examined(api, {"northgate.example": ["v=spf1 include:other.example ~all"]})
    hints = {name: found[name][0] for name in ("SPF", "DKIM", "DMARC")}
    assert hints == dict.fromkeys(hints, "warning")
    assert found["DKIM"][1] == (
        "There is no key at s1._domainkey.northgate.example, s2._domainkey.northgate.example. Add the records that "
        "SendGrid shows for the domain."
    )
    assert "include:sendgrid.net" in found["SPF"][1]
    assert "_dmarc.northgate.example" in found["DMARC"][1]


async def test_a_mail_server_is_signed_in_to_and_gets_no_email(patient: Patient, tmp_path: Path) -> None:
    credentials = Credentials("practice", "the password")
    async with smtp.running(SmtpOptions(starttls=tmp_path, credentials=credentials)) as server:
        entered = {
            "host": "localhost",
            "port": str(server.port),
            "username": "practice",
            "password": "the password",
            "ca": (tmp_path / "certificate.pem").read_text(),
        }
        account = await make_account(patient.stack.database, patient.practice, AccountKind.SMTP, credentials=entered)
        found = await patient.examined("http://127.0.0.1:1")
        assert found["Connection"] == ("ok", f"localhost:{server.port} answers, encrypted by STARTTLS.")
        assert found["Sign-in"][0] == "ok"
        assert found["Limits"][0] == "ok"
        assert "Webhook URL" not in found
        await patient.stack.point(patient.practice, account, entered | {"password": "wrong"}, [])
        found = await patient.examined("http://127.0.0.1:1")
        assert found["Sign-in"][0] == "failed"
        assert "the password" not in str(found)
        async with httpx2.AsyncClient(base_url=server.http_url) as http:
            assert (await http.get("/messages")).json() == []
    found = await patient.examined("http://127.0.0.1:1")
    assert found["Connection"][0] == "failed"


async def test_the_command_prints_tables_and_fails_when_a_check_does(
    patient: Patient, tmp_path: Path, database_url: str
) -> None:
    async with answering(WELL) as dns_server:
        settings = {
            "CAREPOST_DATABASE_URL": database_url,
            "CAREPOST_SECRET_KEY": WITHOUT_COMMA,
            "CAREPOST_PUBLIC_URL": "http://127.0.0.1:1",
            "CAREPOST_ALLOWED_NETWORKS": "127.0.0.0/8",
            "CAREPOST_DNS_SERVER": dns_server,
            "COLUMNS": "160",
        }
        async with SendGridHouse(SigningKey.generate()).running() as url:
            account = await patient.sendgrid(url, [])
            async with patient.stack.database.tenant(patient.practice.id) as connection:
                await update_account(
                    connection,
                    Sealer([WITHOUT_COMMA]),
                    patient.practice.id,
                    account.id,
                    name=None,
                    sender_name=None,
                    sender_email=None,
                    reply_to=None,
                    is_default=None,
                    credentials={"api_key": "SG.secret", "base_url": url},
                )
            failing = await carepost(tmp_path, "doctor", str(account.id), **settings)
        assert failing.code == 1
        assert "esp account (Northgate Practice)" in failing.out
        assert "Webhook URL" in failing.out
        assert "SG.secret" not in failing.out + failing.err
        unknown = await carepost(tmp_path, "doctor", "nothing", **settings)
        assert (unknown.code, unknown.err.strip()) == (1, "carepost: 'nothing' is no id of a sending account.")


async def test_an_account_is_named_by_its_id_or_by_the_apis(patient: Patient) -> None:
    account = await make_account(patient.stack.database, patient.practice)
    other = await make_account(patient.stack.database, patient.practice)
    database, url = patient.stack.database, patient.stack.database_url

    async def names(choice: Choice) -> set[Any]:
        return {each.account.id for each in await chosen_accounts(url, database, choice)}

    assert await names(Choice()) == {account.id, other.id}
    assert await names(Choice(account=str(account.id))) == {account.id}
    assert await names(Choice(account=global_id("SendingAccount", account.id))) == {account.id}
    assert await names(Choice(practice=str(patient.practice.id))) == {account.id, other.id}
    with pytest.raises(ConfigError, match="no such sending account"):
        await names(Choice(practice=str(account.id)))
