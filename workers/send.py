"""Sends one message: claim, hand over, write what came of it.

The claim is committed before the wire is touched and the outcome after; between the two a crash leaves an attempt
without an outcome, which the next claim finds and explains.
"""

import asyncio
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import assert_never
from uuid import UUID

import structlog

from db import accounts, outbox
from db.errors import SealBroken
from db.outbox import AttemptOutcome, Claim
from db.pool import Database
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
    """What came of an attempt; `due_at` is when to try again, None when it's over."""

    outcome: AttemptOutcome
    kind: EventKind
    failure: Failure | None = None
    detail: str = ""
    provider_message_id: str | None = None
    due_at: datetime | None = None


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
        if not kept:
            _log.warning("lease was lost; outcome discarded", message=str(claim.message_id), attempt=claim.number)
            return
        await self._jobs.announce(practice_id)
        if result.due_at is not None:
            await self._jobs.send(practice_id, [claim.message_id], at=result.due_at)

    async def _attempt(self, claim: Claim) -> _Outcome:
        """Hands the email over and says what came of it; raises nothing."""
        try:
            async with asyncio.timeout((self._lease * 2 / 3).total_seconds()):
                answer = await self._hand_over(claim)
        except TransportRefused as error:
            answer = Refused(error.failure)
        except TransportUnavailable as error:
            answer = TryAgain(error.failure)
        except TransportAmbiguous as error:
            return self._again(claim, error.failure, ambiguous=not _is_idempotent(claim))
        except TimeoutError:
            failure = Failure(FailureKind.UNREACHABLE, reason="The mail server took too long to answer.")
            return self._again(claim, failure, ambiguous=not _is_idempotent(claim))
        except MailError as error:
            answer = Refused(Failure(FailureKind.ACCOUNT, reason=str(error)))
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
                return _Outcome(AttemptOutcome.REFUSED, EventKind.FAILED, answer.failure, "refused for good")
            case TryAgain():
                return self._again(claim, answer.failure, asked=answer.after)
        assert_never(answer)

    async def _hand_over(self, claim: Claim) -> Answer:
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
            return await self._smtp.send(smtp_server(claim.account_kind, credentials), email, within=self._lease * 0.6)
        esp = provider(claim.provider or "")
        return esp.read_answer(await self._http.send(esp.send_request(email, credentials)))

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


def _is_idempotent(claim: Claim) -> bool:
    """Whether the same email handed over twice is sent once."""
    return claim.provider is not None and provider(claim.provider).capabilities.idempotency
