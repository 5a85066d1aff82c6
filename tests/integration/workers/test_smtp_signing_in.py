"""How a practice's own mail server is reached: in the clear, by STARTTLS, by TLS, and who signs in how."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from carepost.sandbox import smtp
from carepost.sandbox.smtp import Credentials, SmtpOptions
from mail.status import AccountKind
from tests.integration.workers.sending import OFTEN, Desk, kinds, received, relay
from tests.support.stack import serving_app

USER, PASSWORD = "practice@northgate.example", "a pässword = with: everything"


@pytest.mark.parametrize("security", ["none", "starttls", "tls"])
async def test_an_email_goes_out_by_the_encryption_of_its_account(desk: Desk, tmp_path: Path, security: str) -> None:
    options = {"none": SmtpOptions(), "starttls": SmtpOptions(starttls=tmp_path), "tls": SmtpOptions(tls=tmp_path)}
    async with smtp.running(options[security]) as server:
        ca = {} if security == "none" else {"ca": (tmp_path / "certificate.pem").read_text()}
        account = await desk.account(AccountKind.SMTP, host="localhost", port=str(server.port), security=security, **ca)
        await desk.stack.worker(sweep_interval=OFTEN)
        message = await desk.reaches(await desk.write(account), "SENT")
        assert kinds(message) == ["ACCEPTED"]
        assert message["explanation"]["code"] == "OWN_SERVER"
        [mail] = await received(server)
        assert mail["tls"] is (security != "none")
        assert mail["recipients"] == ["pat@mail.example"]
        assert mail["mail_from"] == "hello@northgate.example"


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_a_certificate_that_nobody_vouches_for_is_not_trusted_with_an_email(
    desk: Desk, tmp_path: Path, security: str
) -> None:
    options = SmtpOptions(starttls=tmp_path) if security == "starttls" else SmtpOptions(tls=tmp_path)
    async with smtp.running(options) as server:
        account = await desk.account(AccountKind.SMTP, host="localhost", port=str(server.port), security=security)
        await desk.stack.worker(sweep_interval=OFTEN)
        message = await desk.explained(await desk.write(account), "RETRYING")
        assert message["status"] == "QUEUED"
        assert "certificate" in message["explanation"]["text"].lower()
        assert await received(server) == []


async def test_an_email_is_never_sent_in_the_clear_when_starttls_is_asked_for(desk: Desk) -> None:
    async with smtp.running() as server:
        account = await desk.account(AccountKind.SMTP, host="localhost", port=str(server.port), security="starttls")
        await desk.stack.worker(sweep_interval=OFTEN)
        message = await desk.explained(await desk.write(account), "RETRYING")
        assert message["status"] == "QUEUED"
        assert "STARTTLS" in message["explanation"]["text"]
        assert await received(server) == []


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_a_user_and_a_password_sign_in(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mechanism: str
) -> None:
    monkeypatch.setattr(smtp, "_MECHANISMS", frozenset({"PLAIN", "LOGIN", "XOAUTH2"}))
    monkeypatch.setattr(Credentials, "mechanisms", property(lambda _: frozenset({mechanism})))
    async with smtp.running(SmtpOptions(starttls=tmp_path, credentials=Credentials(USER, PASSWORD))) as server:
        account = await desk.account(
            AccountKind.SMTP,
            host="localhost",
            port=str(server.port),
            username=USER,
            password=PASSWORD,
            ca=(tmp_path / "certificate.pem").read_text(),
        )
        await desk.stack.worker(sweep_interval=OFTEN)
        await desk.reaches(await desk.write(account), "SENT")
        [mail] = await received(server)
        assert (mail["login"], mail["tls"]) == (USER, True)


async def test_a_wrong_password_is_explained_and_tried_again_with_the_right_one(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mail.retry.FIRST_DELAY", OFTEN)
    async with smtp.running(SmtpOptions(starttls=tmp_path, credentials=Credentials(USER, PASSWORD))) as server:
        right = {
            "host": "localhost",
            "port": str(server.port),
            "username": USER,
            "password": PASSWORD,
            "ca": (tmp_path / "certificate.pem").read_text(),
        }
        account = await desk.account(AccountKind.SMTP, **(right | {"password": "wrong"}))
        await desk.stack.worker(sweep_interval=OFTEN)
        written = await desk.write(account)
        message = await desk.explained(written, "RETRYING")
        assert message["status"] == "QUEUED"
        failure = message["events"]["nodes"][0]["failure"]
        assert (failure["kind"], failure["smtpCode"], failure["enhancedCode"]) == ("ACCOUNT", 535, "5.7.8")
        assert "wrong" not in message["explanation"]["text"]
        await desk.stack.point(desk.practice, account, right, [])
        message = await desk.reaches(written, "SENT")
        assert message["explanation"]["code"] == "OWN_SERVER"
        assert len(await received(server)) == 1


class TokenEndpoint:
    """Google's, on this machine."""

    def __init__(self, answer: dict[str, Any], status: int = 200) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.answer, self.status = answer, status

    async def token(self, request: Request) -> JSONResponse:
        self.asked.append(parse_qs((await request.body()).decode()))
        return JSONResponse(self.answer, self.status)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        async with serving_app(Starlette(routes=[Route("/token", self.token, methods=["POST"])])) as url:
            yield f"{url}/token"


async def test_a_gmail_account_signs_in_by_xoauth2_and_asks_for_one_token_for_many_emails(
    desk: Desk, tmp_path: Path
) -> None:
    endpoint = TokenEndpoint({"access_token": "ya29.right", "expires_in": 3600, "token_type": "Bearer"})
    options = SmtpOptions(starttls=tmp_path, credentials=Credentials(USER, oauth_token="ya29.right"))
    async with smtp.running(options) as server, endpoint.running() as token_url, relay(server.port) as door:
        account = await desk.account(
            AccountKind.GMAIL,
            username=USER,
            client_id="id",
            client_secret="secret",
            refresh_token="1//refresh",
            host="localhost",
            port=str(door.port),
            token_url=token_url,
            ca=(tmp_path / "certificate.pem").read_text(),
        )
        await desk.stack.worker(sweep_interval=OFTEN)
        first = await desk.reaches(await desk.write(account), "SENT")
        assert first["explanation"]["code"] == "OWN_SERVER"
        await door.cut()  # so that the next one signs in anew, by the token that is held
        await desk.reaches(await desk.write(account), "SENT")
        assert [mail["login"] for mail in await received(server)] == [USER, USER]
        assert endpoint.asked == [
            {
                "grant_type": ["refresh_token"],
                "client_id": ["id"],
                "client_secret": ["secret"],
                "refresh_token": ["1//refresh"],
            }
        ]


async def test_a_grant_that_google_took_back_is_explained(desk: Desk) -> None:
    endpoint = TokenEndpoint({"error": "invalid_grant", "error_description": "Token has been revoked."}, 400)
    async with endpoint.running() as token_url:
        account = await desk.account(
            AccountKind.GMAIL,
            username=USER,
            client_id="id",
            client_secret="secret",
            refresh_token="1//refresh",
            host="localhost",
            token_url=token_url,
        )
        await desk.stack.worker(sweep_interval=OFTEN)
        message = await desk.explained(await desk.write(account), "RETRYING")
        assert message["status"] == "QUEUED"
        failure = message["events"]["nodes"][0]["failure"]
        assert failure["kind"] == "ACCOUNT"
        assert "invalid_grant" in failure["reason"]


async def test_a_token_that_was_withdrawn_early_is_replaced_at_the_next_attempt(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mail.retry.FIRST_DELAY", OFTEN)
    endpoint = TokenEndpoint({"access_token": "ya29.old"})
    options = SmtpOptions(starttls=tmp_path, credentials=Credentials(USER, oauth_token="ya29.new"))
    async with smtp.running(options) as server, endpoint.running() as token_url:
        account = await desk.account(
            AccountKind.GMAIL,
            username=USER,
            client_id="id",
            client_secret="secret",
            refresh_token="1//refresh",
            host="localhost",
            port=str(server.port),
            token_url=token_url,
            ca=(tmp_path / "certificate.pem").read_text(),
        )
        await desk.stack.worker(sweep_interval=OFTEN)
        written = await desk.write(account)
        message = await desk.explained(written, "RETRYING")
        assert message["status"] == "QUEUED"
        endpoint.answer = {"access_token": "ya29.new"}
        assert kinds(await desk.reaches(written, "SENT"))[-1] == "ACCEPTED"


async def test_a_server_that_cannot_be_reached_is_tried_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mail.retry.FIRST_DELAY", OFTEN)
    async with relay(0) as nobody:
        port = nobody.port
    account = await desk.account(AccountKind.SMTP, host="127.0.0.1", port=str(port), security="none")
    await desk.stack.worker(sweep_interval=OFTEN)
    written = await desk.write(account)
    message = await desk.when(written, lambda message: len(kinds(message)) >= 2)
    assert message["status"] == "QUEUED"
    assert message["events"]["nodes"][0]["failure"]["kind"] == "UNREACHABLE"
    assert set(kinds(message)) == {"ATTEMPT_DEFERRED"}
    async with smtp.running(port=port) as server:
        await desk.reaches(written, "SENT")
        assert len(await received(server)) == 1


async def test_connections_are_kept_open_and_used_again(desk: Desk) -> None:
    async with smtp.running() as server, relay(server.port) as door:
        account = await desk.account(AccountKind.SMTP, host="127.0.0.1", port=str(door.port), security="none")
        await desk.stack.worker(sweep_interval=OFTEN)
        written = await asyncio.gather(*(desk.write(account, f"p{number}@mail.example") for number in range(40)))
        for message_id in written:
            assert kinds(await desk.reaches(message_id, "SENT")) == ["ACCEPTED"]
        assert len(await received(server)) == 40
        assert 1 <= door.opened <= 4


async def test_a_connection_that_went_stale_is_replaced_without_a_failed_attempt(desk: Desk) -> None:
    async with smtp.running() as server, relay(server.port) as door:
        account = await desk.account(AccountKind.SMTP, host="127.0.0.1", port=str(door.port), security="none")
        await desk.stack.worker(sweep_interval=OFTEN)
        await desk.reaches(await desk.write(account, "first@mail.example"), "SENT")
        before = door.opened
        await door.cut()
        second = await desk.reaches(await desk.write(account, "second@mail.example"), "SENT")
        assert kinds(second) == ["ACCEPTED"]
        assert door.opened == before + 1
        assert len(await received(server)) == 2


async def test_a_server_that_takes_two_emails_a_connection_gets_a_new_one_without_a_failed_attempt(
    desk: Desk,
) -> None:
    taken: list[int] = []
    opened = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Says 421 to a third MAIL (RFC 5321 section 3.8), as servers with such a limit do."""
        nonlocal opened
        opened += 1
        mails, in_data = 0, False
        writer.write(b"220 two.example ESMTP\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if in_data:
                if line == b".\r\n":
                    in_data = False
                    taken.append(opened)
                    writer.write(b"250 2.0.0 taken\r\n")
            elif verb == b"MAIL":
                mails += 1
                if mails > 2:
                    writer.write(b"421 4.7.0 too many messages for this connection\r\n")
                    break
                writer.write(b"250 2.1.0 ok\r\n")
            elif verb == b"DATA":
                in_data = True
                writer.write(b"354 go on\r\n")
            else:
                writer.write(b"250 ok\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        account = await desk.account(AccountKind.SMTP, host="127.0.0.1", port=str(port), security="none")
        await desk.stack.worker(sweep_interval=OFTEN)
        for number in range(4):  # one after the other, so that one connection is used for all
            message = await desk.reaches(await desk.write(account, f"p{number}@mail.example"), "SENT")
            assert kinds(message) == ["ACCEPTED"]
    assert taken == [1, 1, 2, 2]
