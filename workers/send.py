"""Sends one message: claim, hand over, write what came of it.

The claim is committed before the wire is touched and the outcome after; between the two a crash leaves an attempt
without an outcome, which the next claim finds and explains.
"""

import asyncio
import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import assert_never
from uuid import UUID

import structlog

from db import accounts, outbox
from db.account_health import clear_refusal, note_refusal
from db.errors import SealBroken
from db.outbox import AttemptOutcome, Claim
from db.pool import Connection, Database
from db.sealing import Sealer
from mail.errors import MailError
from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.ids import PracticeId
from mail.message import Email
from mail.providers import provider
from mail.providers.base import Accepted, Answer, Refused, TryAgain
from mail.retry import next_attempt
from mail.servers import smtp_server
from mail.status import AccountKind
from workers.errors import TransportAmbiguous, TransportRefused, TransportUnavailable
from workers.jobs import Jobs
from workers.transports.http import HttpTransport
from workers.transports.smtp import SmtpTransport

_log = structlog.get_logger("carepost.send")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of an attempt; `due_at` is when to try again, None when it's over. `refusal` is what the ESP or server
    said when it refused the account itself, whatever the email."""

    outcome: AttemptOutcome
    kind: EventKind
    failure: Failure | None = None
    detail: str = ""
    provider_message_id: str | None = None
    due_at: datetime | None = None
    refusal: str | None = None


class Sender:
    """Sends messages that are due. `lease` is how long a claim holds; handing over takes less than two thirds."""

    def __init__(
        self,
        database: Database,
        sealer: Sealer,
        jobs: Jobs,
        http: HttpTransport,
        smtp: SmtpTransport,
        *,
        worker: str,
        lease: timedelta,
    ) -> None:
        self._database = database
        self._sealer = sealer
        self._jobs = jobs
        self._http = http
        self._smtp = smtp
        self._worker = worker
        self._lease = lease

    async def send(self, practice_id: PracticeId, message_id: UUID) -> None:
        """Sends a message if it is due and nobody else has it; safe to call twice."""
        async with self._database.tenant(practice_id) as connection:
            claim = await outbox.claim(connection, self._sealer, practice_id, message_id, self._worker, self._lease)
            if claim is None:
                return
        result = await self._attempt(claim)
        event = Event(
            kind=result.kind,
            occurred_at=datetime.now(UTC),
            dedupe_key=f"attempt/{claim.number}/{result.outcome.value}",
            failure=result.failure,
            detail=result.detail,
        )
        async with self._database.tenant(practice_id) as connection:
            kept = await outbox.finish(
                connection,
                claim,
                result.outcome,
                event,
                provider_message_id=result.provider_message_id,
                due_at=result.due_at,
            )
            if kept:
                await _note_account(connection, claim, result)
        if not kept:
            _log.warning("lease was lost; outcome discarded", message=str(claim.message_id), attempt=claim.number)
            return
        await self._jobs.announce(practice_id)
        if result.due_at is not None:
            await self._jobs.send(practice_id, [claim.message_id], at=result.due_at)

    async def _attempt(self, claim: Claim) -> _Outcome:
        """Hands the email over and says what came of it; raises nothing."""
        refusal: str | None = None
        try:
            async with asyncio.timeout((self._lease * 2 / 3).total_seconds()):
                answer, refusal = await self._hand_over(claim)
        except TransportRefused as error:
            answer, refusal = Refused(error.failure), _refusal(error.failure)
        except TransportUnavailable as error:
            answer, refusal = TryAgain(error.failure), _refusal(error.failure)
        except TransportAmbiguous as error:
            return self._again(claim, error.failure, ambiguous=not _is_idempotent(claim))
        except TimeoutError:
            failure = Failure(FailureKind.UNREACHABLE, reason="The mail server took too long to answer.")
            return self._again(claim, failure, ambiguous=not _is_idempotent(claim))
        except MailError as error:
            answer, refusal = Refused(Failure(FailureKind.ACCOUNT, reason=str(error))), str(error)
        except SealBroken as error:
            # A key is missing among SECRET_KEY; once the operator has put it back, the email goes out.
            answer = TryAgain(Failure(FailureKind.ACCOUNT, reason=str(error)))
        except Exception:
            _log.exception("attempt failed unexpectedly", message=str(claim.message_id), attempt=claim.number)
            answer = TryAgain(Failure(FailureKind.OTHER, reason="An internal error; it will be tried again."))
        match answer:
            case Accepted():
                return _Outcome(
                    AttemptOutcome.ACCEPTED,
                    EventKind.ACCEPTED,
                    detail=answer.reply,
                    provider_message_id=answer.provider_message_id,
                )
            case Refused():
                return _Outcome(
                    AttemptOutcome.REFUSED, EventKind.FAILED, answer.failure, "refused for good", refusal=refusal
                )
            case TryAgain():
                return replace(self._again(claim, answer.failure, asked=answer.after), refusal=refusal)
        assert_never(answer)

    async def _hand_over(self, claim: Claim) -> tuple[Answer, str | None]:
        """The answer, and what was said where the account itself is refused."""
        if claim.body is None:
            raise SealBroken("The email was sealed with a key that is not among SECRET_KEY.")
        async with self._database.tenant(claim.practice_id) as connection:
            credentials = await accounts.read_credentials(connection, self._sealer, claim.practice_id, claim.account_id)
        email = Email(
            id=claim.message_id,
            sender=claim.sender,
            recipient=claim.recipient,
            reply_to=claim.reply_to,
            subject=claim.subject,
            text=claim.body.text,
            html=claim.body.html,
            date=claim.queued_at,
            track_opens=claim.track_opens,
        )
        if claim.account_kind is not AccountKind.ESP:
            # It knows whether the email had left when time is up, so its time is up first.
            server = smtp_server(claim.account_kind, credentials)
            answer = await self._smtp.send(server, email, within=self._lease * 0.6)
            return answer, None if isinstance(answer, Accepted) else _refusal(answer.failure)
        esp = provider(claim.provider or "")
        response = await self._http.send(esp.send_request(email, credentials))
        answer = esp.read_answer(response)
        return answer, None if isinstance(answer, Accepted) else _refusal(answer.failure, response.status)

    def _again(
        self, claim: Claim, failure: Failure, *, ambiguous: bool = False, asked: timedelta | None = None
    ) -> _Outcome:
        """Another attempt later, or the end of it after 48 hours."""
        chance = random.random()  # noqa: S311 - jitter
        due_at = next_attempt(claim.number, claim.first_due, datetime.now(UTC), chance, asked)
        if due_at is None:
            outcome = AttemptOutcome.AMBIGUOUS if ambiguous else AttemptOutcome.REFUSED
            doubt = "; the last attempt got no answer, so it may have arrived all the same" if ambiguous else ""
            return _Outcome(outcome, EventKind.FAILED, failure, f"given up after 48 hours{doubt}")
        if ambiguous:
            detail = "the connection ended before the server answered"
            return _Outcome(AttemptOutcome.AMBIGUOUS, EventKind.ATTEMPT_AMBIGUOUS, failure, detail, due_at=due_at)
        return _Outcome(AttemptOutcome.DEFERRED, EventKind.ATTEMPT_DEFERRED, failure, "put off", due_at=due_at)


def _refusal(failure: Failure, status: int | None = None) -> str | None:
    """What was said when an account is refused, by the HTTP status or the kind of the failure; None for any other
    failure, and for a limit of the moment (429), which is no fault of the key."""
    if status in {401, 403} or (failure.kind is FailureKind.ACCOUNT and status != 429):
        return failure.reason or f"HTTP {status}"
    return None


async def _note_account(connection: Connection, claim: Claim, result: _Outcome) -> None:
    """Notes on the account that it is refused, or that it no longer is."""
    if result.refusal is not None:
        await note_refusal(connection, claim.practice_id, claim.account_id, result.refusal, claim.started_at)
    elif result.outcome is AttemptOutcome.ACCEPTED and claim.account_refused:
        await clear_refusal(connection, claim.practice_id, claim.account_id)


def _is_idempotent(claim: Claim) -> bool:
    """Whether the same email handed over twice is sent once."""
    return claim.provider is not None and provider(claim.provider).capabilities.idempotency
