"""What a practice's own mail server answers, and what arrives there."""

import asyncio
import base64
import contextlib
import email
import email.policy
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from typing import Any
from uuid import UUID

import pytest
from aiosmtplib.protocol import PERIOD_REGEX, normalize_message_line_endings
from hypothesis import given
from hypothesis import strategies as st

from api.graphql.ids import read_global_id
from carepost.sandbox import smtp
from db.practices import Practice
from mail.ids import MessageId
from mail.message import Address, Email
from mail.mime import render
from mail.providers.base import Accepted, Refused, TryAgain
from mail.servers import Security, SmtpServer
from mail.status import AccountKind
from tests.integration.workers.sending import OFTEN, Desk, an_email, kinds, received
from tests.support.practice import make_patient
from tests.support.stack import LOOPBACK, Stack, until
from workers.errors import TransportAmbiguous, TransportUnavailable
from workers.transports.http import HttpTransport
from workers.transports.outgoing import Outgoing
from workers.transports.smtp import SmtpTransport, as_data

SOON = timedelta(seconds=1)
"""Before the second attempt: long enough for what stands between the two to be seen."""
SEND = """mutation ($input: SendMessageInput!) {
  sendMessage(input: $input) { message { id } errors { field message code } }
}"""


def parsed(mail: dict[str, Any]) -> EmailMessage:
    message = email.message_from_bytes(base64.b64decode(mail["raw"]), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert message.defects == []
    return message


def content(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    assert part.defects == []
    return str(part.get_content()).replace("\r\n", "\n")


async def test_a_refusal_for_good_ends_as_failed_with_the_servers_reply(desk: Desk) -> None:
    account, server = await desk.stack.smtp(desk.practice)
    await desk.stack.worker(sweep_interval=OFTEN)
    message = await desk.reaches(await desk.write(account, "refused@sandbox.example"), "FAILED")
    assert message["failure"] == {
        "kind": "ADDRESS_UNKNOWN",
        "smtpCode": 550,
        "enhancedCode": "5.1.1",
        "reason": "550 5.1.1 <refused@sandbox.example>: no such user here",
    }
    assert message["explanation"]["code"] == "REFUSED"
    assert kinds(message) == ["FAILED"]
    assert message["sentAt"] is None
    assert await received(server) == []


async def test_a_refusal_after_the_data_ends_as_failed_too(desk: Desk) -> None:
    account, _ = await desk.stack.smtp(desk.practice)
    await desk.stack.worker(sweep_interval=OFTEN)
    message = await desk.reaches(await desk.write(account, "toolarge@sandbox.example"), "FAILED")
    assert (message["failure"]["smtpCode"], message["failure"]["enhancedCode"]) == (552, "5.3.4")
    assert message["failure"]["kind"] == "TOO_LARGE"


async def test_a_greylisted_email_is_tried_again_under_the_same_message_id(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mail.retry.FIRST_DELAY", SOON)
    account, server = await desk.stack.smtp(desk.practice)
    written = await desk.write(account, "greylisted@sandbox.example")
    await desk.stack.worker(sweep_interval=OFTEN)
    message = await desk.explained(written, "RETRYING")
    assert message["status"] == "QUEUED"
    assert "451 4.7.1 greylisted, come back in a few minutes" in message["explanation"]["text"]
    message = await desk.reaches(written, "SENT")
    assert kinds(message) == ["ATTEMPT_DEFERRED", "ACCEPTED"]
    # The sandbox remembers the Message-ID of the first attempt: another one would have been put off again.
    [mail] = await received(server)
    assert parsed(mail)["Message-ID"] == f"<{UUID(written).hex}@northgate.example>"


async def test_a_connection_that_ends_between_content_and_answer_is_explained_as_may_arrive_twice(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mail.retry.FIRST_DELAY", SOON)
    account, server = await desk.stack.smtp(desk.practice)
    written = await desk.write(account, "dropped@sandbox.example")
    await desk.stack.worker(sweep_interval=OFTEN)
    message = await desk.explained(written, "MAY_ARRIVE_TWICE")
    assert message["status"] == "QUEUED"
    message = await desk.reaches(written, "SENT")
    assert kinds(message) == ["ATTEMPT_AMBIGUOUS", "ACCEPTED"]
    assert message["explanation"]["code"] == "OWN_SERVER"
    assert "may arrive twice" in message["explanation"]["text"]
    first, second = await received(server)
    assert (first["answered"], second["answered"]) == (False, True)
    assert first["raw"] == second["raw"]  # every attempt's bytes are the same


async def test_time_that_runs_out_after_the_content_left_is_ambiguous(stack: Stack, practice: Practice) -> None:
    desk = await Desk.open(stack, practice)
    async with smtp.running(smtp.SmtpOptions(slow_seconds=3)) as server:
        account = await desk.account(AccountKind.SMTP, host=server.host, port=str(server.port), security="none")
        await stack.worker(sweep_interval=OFTEN, lease=timedelta(seconds=1))
        message = await desk.explained(await desk.write(account, "slow@sandbox.example"), "MAY_ARRIVE_TWICE")
        assert "ATTEMPT_AMBIGUOUS" in kinds(message)


async def test_time_that_runs_out_while_waiting_for_a_turn_is_no_reason_to_fear_a_second_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("workers.transports.smtp.CONNECTIONS_PER_SERVER", 1)

    async with (
        smtp.running(smtp.SmtpOptions(slow_seconds=0.6)) as running,
        HttpTransport(Outgoing(LOOPBACK)) as http,
        SmtpTransport(http, Outgoing(LOOPBACK)) as transport,
    ):
        server = SmtpServer(running.host, running.port, Security.NONE)
        slow = asyncio.create_task(
            transport.send(server, an_email("slow@sandbox.example"), within=timedelta(seconds=20))
        )
        await asyncio.sleep(0)  # it takes the one connection that there is
        with pytest.raises(TransportUnavailable):
            await transport.send(server, an_email("pat@mail.example"), within=timedelta(seconds=0.1))
        assert isinstance(await slow, Accepted)
        with pytest.raises(TransportAmbiguous):
            await transport.send(server, an_email("slow@sandbox.example"), within=timedelta(seconds=0.3))
        assert await received(running, "pat@mail.example") == []


async def test_what_arrives_is_what_was_written(desk: Desk) -> None:
    _, server = await desk.stack.smtp(desk.practice)
    await desk.stack.worker()
    patient = await make_patient(desk.stack.database, desk.practice, "soren.k@mail.example", "Søren Kjær, Dr. „x“")
    subject = "Ergebnisse für Søren: 血液検査 — bitte zurückrufen 🩺 " + "x" * 120
    text = "Grüße,\n\n.a line that begins with a dot\n..and two\nFrom here on\n" + "ü" * 2000 + "\n" + "word " * 400
    html = "<p>Grüße &amp; <b>alles Gute</b> 🩺</p>\n<p>" + "y" * 3000 + "</p>"
    nodes = (await desk.client("{ patients { nodes { id } } }"))["patients"]["nodes"]
    wish = {"patientId": nodes[0]["id"], "subject": subject, "text": text, "html": html}
    answer = (await desk.client(SEND, input=wish))["sendMessage"]
    assert answer["errors"] == []
    _, key = read_global_id(answer["message"]["id"]) or ("", "")
    message = await desk.reaches(key, "SENT")
    [mail] = await received(server)
    arrived = parsed(mail)
    assert mail["recipients"] == ["soren.k@mail.example"]
    assert arrived["Subject"] == subject
    assert [str(address) for address in arrived["From"].addresses] == ["Northgate <hello@northgate.example>"]
    [to] = arrived["To"].addresses
    assert (to.display_name, to.addr_spec) == (patient.name, "soren.k@mail.example")
    assert arrived["Message-ID"] == f"<{UUID(key).hex}@northgate.example>"
    assert arrived["Date"].datetime == datetime.fromisoformat(message["queuedAt"]).replace(microsecond=0)
    assert arrived["Auto-Submitted"] == "auto-generated"
    assert content(arrived, "plain").rstrip("\n") == text.rstrip("\n")
    assert content(arrived, "html").rstrip("\n") == html
    assert max(map(len, base64.b64decode(mail["raw"]).splitlines())) <= 998  # RFC 5322 section 2.1.1


@pytest.mark.parametrize(
    ("at", "reply", "outcome"),
    [
        (b"RCPT", b"550 5.1.1 nobody", Refused),
        (b"RCPT", b"450 4.2.1 later", TryAgain),
        (b"RCPT", b"what?", TryAgain),
        (b"RCPT", b"421 4.7.0 too many", TransportUnavailable),
        (b"DATA", b"554 5.5.1 no", Refused),
        (b"DATA", b"451 4.3.0 later", TryAgain),
        (b"DATA", b"421 4.3.2 closing", TransportUnavailable),
        (b"DATA", None, TransportUnavailable),
        (b".", b"250 2.0.0 taken", Accepted),
        (b".", b"251 2.0.0 taken", Accepted),
        (b".", b"550 5.7.1 spam", Refused),
        (b".", b"452 4.3.1 full", TryAgain),
        (b".", b"354 go on", TransportAmbiguous),
        (b".", b"what?", TransportAmbiguous),
        (b".", None, TransportAmbiguous),
    ],
)
async def test_each_answer_at_each_step_is_taken_for_what_it_says(
    at: bytes, reply: bytes | None, outcome: type
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            writer.write(b"220 odd\r\n")
            while (line := (await reader.readline()).rstrip()) and not line.startswith(b"QUIT"):
                if line == b"DATA" and at != b"DATA":
                    writer.write(b"354 go on\r\n")
                    await reader.readuntil(b"\r\n.\r\n")
                    line = b"."
                if not line.startswith(at):
                    writer.write(b"250 ok\r\n")
                elif reply is None:
                    return
                else:
                    writer.write(reply + b"\r\n")

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with (
        listening,
        HttpTransport(Outgoing(LOOPBACK)) as http,
        SmtpTransport(http, Outgoing(LOOPBACK)) as transport,
    ):
        try:
            answer: object = await transport.send(
                SmtpServer("127.0.0.1", port, Security.NONE), an_email(), within=timedelta(seconds=20)
            )
        except (TransportAmbiguous, TransportUnavailable) as error:
            answer = error
        assert type(answer) is outcome


async def test_lines_that_begin_with_a_dot_arrive_with_it(desk: Desk) -> None:
    _, server = await desk.stack.smtp(desk.practice)
    await desk.stack.worker()
    await make_patient(desk.stack.database, desk.practice)
    text = ".one\n..two\n\n.\n" + "w" * 75 + "\n" + "soft breaks " * 20 + ". . .\n."
    nodes = (await desk.client("{ patients { nodes { id } } }"))["patients"]["nodes"]
    answer = await desk.client(SEND, input={"patientId": nodes[0]["id"], "subject": "Dots", "text": text})
    _, key = read_global_id(answer["sendMessage"]["message"]["id"]) or ("", "")
    await desk.reaches(key, "SENT")
    [mail] = await received(server)
    assert content(parsed(mail), "plain").rstrip("\n") == text


@given(
    text=st.lists(st.sampled_from([".", "..", "a", "\n", "\r\n", "\r", "é", "血", "=" * 80, "a." * 60])).map("".join),
    html=st.none() | st.sampled_from([".", "<p>\n.\n</p>", "<p>é</p>\n..\n"]),
    subject=st.sampled_from([".", "Dots.", "血" * 60]),
)
def test_what_goes_over_the_wire_is_what_aiosmtplib_makes_of_it(text: str, html: str | None, subject: str) -> None:
    content = render(
        Email(
            id=MessageId(UUID(int=1)),
            sender=Address("hello@northgate.example"),
            recipient=Address("pat@mail.example", ". Pat"),
            subject=subject,
            text=text,
            html=html,
            date=datetime(2026, 3, 1, tzinfo=UTC),
        )
    )
    assert as_data(content) == PERIOD_REGEX.sub(b"..", normalize_message_line_endings(content)) + b".\r\n"


async def test_an_address_beyond_ascii_goes_out_where_the_server_can_take_it(desk: Desk) -> None:
    account, server = await desk.stack.smtp(desk.practice)
    await desk.stack.worker(sweep_interval=OFTEN)
    await desk.reaches(await desk.write(account, "søren@mail.example", name="Søren Kjær"), "SENT")
    [mail] = await received(server)
    assert mail["recipients"] == ["søren@mail.example"]
    assert "<søren@mail.example>\r\n" in base64.b64decode(mail["raw"]).decode()


async def test_an_address_beyond_ascii_is_refused_by_a_server_that_cannot_take_it(desk: Desk) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 old.example ESMTP\r\n")
        while await reader.readline():
            writer.write(b"250 old.example\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        account = await desk.account(AccountKind.SMTP, host="127.0.0.1", port=str(port), security="none")
        await desk.stack.worker(sweep_interval=OFTEN)
        message = await desk.reaches(await desk.write(account, "søren@mail.example"), "FAILED")
        assert "RFC 6531" in message["failure"]["reason"]


async def test_a_message_is_given_up_after_48_hours(desk: Desk) -> None:
    account = await desk.account(AccountKind.SMTP, host="127.0.0.1", port="1", security="none")
    written = await desk.write(account, at=datetime.now(UTC) - timedelta(hours=48))
    await desk.stack.worker(sweep_interval=OFTEN)
    message = await desk.reaches(written, "FAILED")
    assert message["events"]["nodes"][-1]["detail"] == "given up after 48 hours"
    assert message["failure"]["kind"] == "UNREACHABLE"


async def test_a_message_that_was_ambiguous_to_the_last_comes_to_an_end_too(desk: Desk) -> None:
    account, server = await desk.stack.smtp(desk.practice)
    written = await desk.write(account, "dropped@sandbox.example", at=datetime.now(UTC) - timedelta(hours=48))
    await desk.stack.worker(sweep_interval=OFTEN)
    message = await desk.reaches(written, "FAILED")
    assert kinds(message) == ["FAILED"]
    assert message["events"]["nodes"][-1]["detail"] == (
        "given up after 48 hours; the last attempt got no answer, so it may have arrived all the same"
    )

    async def is_over() -> bool:
        async with desk.stack.database.tenant(desk.practice.id) as connection:
            return bool(await connection.fetchval("SELECT due_at IS NULL FROM message"))

    await until(is_over)
    assert len(await received(server)) == 1
