import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage

import aiosmtplib
import httpx2
import pytest

from carepost.sandbox import smtp
from carepost.sandbox.smtp import RunningSmtp, SmtpOptions
from carepost.sandbox.smtp_handler import Credentials


def email_to(*recipients: str, message_id: str = "<1@practice.example>") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "desk@practice.example"
    message["To"] = ", ".join(recipients)
    message["Subject"] = "Grüße"
    message["Message-ID"] = message_id
    message.set_content("Tuesday\n.\n..")
    return message


@asynccontextmanager
async def client(server: RunningSmtp, **options: object) -> AsyncIterator[aiosmtplib.SMTP]:
    connection = aiosmtplib.SMTP(hostname=server.host, port=server.port, timeout=5, start_tls=False, **options)
    async with connection:
        yield connection


async def messages(server: RunningSmtp, **params: str) -> list[dict]:
    async with httpx2.AsyncClient(base_url=server.http_url, trust_env=False, verify=False) as http:
        return (await http.get("/messages", params=params)).json()


@pytest.fixture
async def server() -> AsyncIterator[RunningSmtp]:
    async with smtp.running(SmtpOptions(slow_seconds=0.05)) as server:
        yield server


async def test_an_email_arrives_as_it_was_sent(server):
    async with client(server) as connection:
        await connection.ehlo()
        for extension in ("size", "8bitmime", "smtputf8", "pipelining"):
            assert connection.supports_extension(extension)
        assert not connection.supports_extension("auth")
        await connection.send_message(email_to("pat@anywhere.example"))
    (received,) = await messages(server, to="pat@anywhere.example")
    assert (received["mail_from"], received["recipients"]) == ("desk@practice.example", ["pat@anywhere.example"])
    assert ["Subject", "Grüße"] in received["headers"]
    assert base64.b64decode(received["raw"]).endswith(b"\r\n\r\nTuesday\r\n.\r\n..\r\n")
    assert (received["login"], received["tls"], received["answered"]) == (None, False, True)
    assert await messages(server, to="other@anywhere.example") == []


async def test_the_mailbox_can_be_emptied_and_has_a_page(server):
    async with client(server) as connection:
        await connection.send_message(email_to("pat@anywhere.example"))
    async with httpx2.AsyncClient(base_url=server.http_url, trust_env=False, verify=False) as http:
        assert "pat@anywhere.example" in (await http.get("/")).text
        assert (await http.delete("/messages")).status_code == 204
    assert await messages(server) == []


async def test_a_refused_address_is_refused_at_rcpt(server):
    async with client(server) as connection:
        with pytest.raises(aiosmtplib.SMTPRecipientsRefused) as refusal:
            await connection.send_message(email_to("refused+x@sandbox.example"))
        assert refusal.value.recipients[0].code == 550
        await connection.send_message(email_to("refused@elsewhere.example"))


async def test_a_greylisted_address_takes_the_second_attempt_for_each_email(server):
    async with client(server) as connection:
        for message_id in ("<1@practice.example>", "<2@practice.example>"):
            message = email_to("greylisted@sandbox.example", message_id=message_id)
            with pytest.raises(aiosmtplib.SMTPDataError) as refusal:
                await connection.send_message(message)
            assert (refusal.value.code, refusal.value.message[:5]) == (451, "4.7.1")
            await connection.send_message(message)
    assert len(await messages(server)) == 2


async def test_too_large_is_said_after_the_data(server):
    async with client(server) as connection:
        with pytest.raises(aiosmtplib.SMTPDataError) as refusal:
            await connection.send_message(email_to("toolarge@sandbox.example"))
    assert (refusal.value.code, refusal.value.message[:5]) == (552, "5.3.4")


@pytest.mark.parametrize("secure", [False, True])
async def test_a_dropped_email_was_taken_without_an_answer(secure, tmp_path):
    options = SmtpOptions(tls=tmp_path if secure else None)
    async with smtp.running(options) as server:
        trust = ssl.create_default_context(cafile=tmp_path / "certificate.pem") if secure else None
        message = email_to("dropped@sandbox.example")
        with pytest.raises(aiosmtplib.SMTPServerDisconnected):
            async with client(server, use_tls=secure, tls_context=trust) as connection:
                await connection.send_message(message)
        async with client(server, use_tls=secure, tls_context=trust) as connection:
            await connection.send_message(message)
        assert [(mail["answered"], mail["tls"]) for mail in await messages(server)] == [(False, secure), (True, secure)]


async def test_a_slow_address_takes_its_time(server):
    async with client(server) as connection:
        await connection.send_message(email_to("slow@sandbox.example"))
        with pytest.raises(aiosmtplib.SMTPReadTimeoutError):
            await connection.send_message(email_to("slow@sandbox.example"), timeout=0.01)


async def test_starttls_is_required_and_its_certificate_can_be_trusted(tmp_path):
    async with smtp.running(SmtpOptions(starttls=tmp_path)) as server:
        trust = ssl.create_default_context(cafile=tmp_path / "certificate.pem")
        async with client(server, tls_context=trust) as connection:
            with pytest.raises(aiosmtplib.SMTPException) as refusal:
                await connection.send_message(email_to("pat@anywhere.example"))
            assert "STARTTLS" in str(refusal.value)
        async with client(server, tls_context=trust) as connection:
            await connection.starttls()
            await connection.send_message(email_to("pat@anywhere.example"))
        (received,) = await messages(server)
        assert received["tls"] is True


async def test_the_certificate_is_kept(tmp_path):
    made = []
    for _ in range(2):
        async with smtp.running(SmtpOptions(tls=tmp_path)):
            made.append((tmp_path / "certificate.pem").read_bytes())
    assert made[0] == made[1]
    assert (tmp_path / "key.pem").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("method", ["auth_plain", "auth_login"])
@pytest.mark.parametrize("starttls", [False, True])
async def test_a_password_signs_in(method, starttls, tmp_path):
    options = SmtpOptions(starttls=tmp_path if starttls else None, credentials=Credentials("desk", "pässword"))
    async with smtp.running(options) as server:
        trust = ssl.create_default_context(cafile=tmp_path / "certificate.pem") if starttls else None
        async with client(server, tls_context=trust) as connection:
            if starttls:
                await connection.starttls()
            await connection.ehlo()
            assert set(connection.server_auth_methods) == {"plain", "login"}
            with pytest.raises(aiosmtplib.SMTPSenderRefused) as refusal:
                await connection.send_message(email_to("pat@anywhere.example"))
            assert refusal.value.code == 530
            with pytest.raises(aiosmtplib.SMTPAuthenticationError) as denial:
                await getattr(connection, method)("desk", "wrong")
            assert denial.value.code == 535
            await getattr(connection, method)("desk", "pässword")
            await connection.send_message(email_to("pat@anywhere.example"))
        (received,) = await messages(server)
        assert (received["login"], received["tls"]) == ("desk", starttls)


async def test_an_oauth_token_signs_in():
    async with smtp.running(SmtpOptions(credentials=Credentials("desk@gmail.example", oauth_token="ya29.x"))) as server:
        async with client(server) as connection:
            await connection.ehlo()
            assert connection.server_auth_methods == ["xoauth2"]
            with pytest.raises(aiosmtplib.SMTPAuthenticationError) as denial:
                await connection.auth_xoauth2("desk@gmail.example", "old")
            assert denial.value.code == 535
            await connection.auth_xoauth2("desk@gmail.example", "ya29.x")
            await connection.send_message(email_to("pat@anywhere.example"))
        (received,) = await messages(server)
        assert received["login"] == "desk@gmail.example"
