"""One attempt to send a message: hands it over and says what came of it.

The claim is committed before (see workers.lanes) and the outcome after (workers.outcomes); between the two a crash
leaves an attempt without an outcome, which the next claim finds and explains.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, assert_never

import structlog

from db.errors import SealBroken
from db.outbox import AttemptOutcome, Claim, Ending
from mail.errors import MailError
from mail.event import Event, EventKind
from mail.failure import Failure, FailureKind
from mail.message import Email
from mail.providers import provider
from mail.providers.base import Accepted, Answer, Refused, TryAgain
from mail.retry import next_attempt
from mail.servers import smtp_server
from mail.status import AccountKind
from workers.errors import TransportAmbiguous, TransportRefused, TransportUnavailable
from workers.transports.http import HttpTransport
from workers.transports.smtp import SmtpTransport

_UNTOLD_WAIT: Final = timedelta(seconds=2)
"""Where an ESP answers that there were too many requests, and not how long to wait."""
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
    pause: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Attempted:
    """What came of an attempt. `refusal` is what was said when the account itself is refused; `is_down` says that the
    next email through the account would fail likewise, `pause` that we were asked to wait."""

    ending: Ending
    refusal: str | None
    is_down: bool
    pause: timedelta | None


class Sender:
    """Hands over what is claimed. `lease` is how long a claim holds; handing over takes less than two thirds."""

    def __init__(self, http: HttpTransport, smtp: SmtpTransport, *, lease: timedelta) -> None:
        self._http = http
        self._smtp = smtp
        self._lease = lease

    async def attempt(self, claim: Claim, credentials: Mapping[str, str] | None) -> Attempted:
        """Hands the email over and says what came of it; raises nothing. `credentials` is None when their seal doesn't
        open."""
        result = await self._attempt(claim, credentials)
        event = Event(
            kind=result.kind,
            occurred_at=claim.now(),
            dedupe_key=f"attempt/{claim.number}/{result.outcome.value}",
            failure=result.failure,
            detail=result.detail,
        )
        ending = Ending(claim, result.outcome, event, result.provider_message_id, result.due_at)
        return Attempted(ending, result.refusal, _is_down(result), result.pause)

    async def _attempt(self, claim: Claim, credentials: Mapping[str, str] | None) -> _Outcome:
        refusal: str | None = None
        try:
            async with asyncio.timeout((self._lease * 2 / 3).total_seconds()):
                answer, refusal = await self._hand_over(claim, credentials)
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
                again = self._again(claim, answer.failure, asked=answer.after)
                return replace(again, refusal=refusal, pause=answer.after)
        assert_never(answer)

    async def _hand_over(self, claim: Claim, credentials: Mapping[str, str] | None) -> tuple[Answer, str | None]:
        """The answer, and what was said where the account itself is refused."""
        if claim.body is None or credentials is None:
            what = "account" if claim.body else "email"
            raise SealBroken(f"The {what} was sealed with a key that is not among SECRET_KEY.")
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
        esp.check_credentials(credentials)
        response = await self._http.send(esp.send_request(email, credentials))
        answer = esp.read_answer(response)
        if response.status == 429 and isinstance(answer, TryAgain) and answer.after is None:
            answer = TryAgain(answer.failure, _UNTOLD_WAIT)
        return answer, None if isinstance(answer, Accepted) else _refusal(answer.failure, response.status)

    def _again(
        self, claim: Claim, failure: Failure, *, ambiguous: bool = False, asked: timedelta | None = None
    ) -> _Outcome:
        """Another attempt later, or the end of it after 48 hours."""
        chance = random.random()  # noqa: S311 - jitter
        due_at = next_attempt(claim.tries, claim.first_due, claim.now(), chance, asked)
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


def _is_down(result: _Outcome) -> bool:
    """Whether the failure is the account's or its server's, which the next email would meet too."""
    if result.outcome is AttemptOutcome.ACCEPTED or result.failure is None:
        return False
    unreachable = result.failure.kind is FailureKind.UNREACHABLE or result.failure.smtp_code == 421
    return unreachable or (result.refusal is not None and result.due_at is not None)


def _is_idempotent(claim: Claim) -> bool:
    """Whether the same email handed over twice is sent once."""
    return claim.provider is not None and provider(claim.provider).capabilities.idempotency
