"""`carepost revoke`: tokens that hold no more."""

from datetime import UTC, datetime
from typing import Final

import jwt

from api.revocations import REMEMBER
from carepost.config import ConfigError
from carepost.tokens import token_id_of
from db.audit import record_deed
from db.migrate import check_migrated
from db.pool import Database, PoolSize
from db.practices import find_practice
from db.revocations import Revocation, revoke
from mail.ids import PracticeId

_WITHIN: Final = (
    f"API processes refuse them within {REMEMBER:.0f} seconds, and close their sockets within {REMEMBER * 2:.0f}."
)


def read_revocation(subject: str | None, token_id: str | None, before: str | None, now: datetime) -> Revocation:
    """What the options say; raises `ConfigError`."""
    if token_id is not None and (subject is not None or before is not None):
        raise ConfigError("--token-id names one token alone; leave out --subject and --before.")
    if token_id is None and subject is None and before is None:
        raise ConfigError(
            "Say which tokens: --token-id JTI, --subject S, or --before TIME for everybody's of the practice."
        )
    if token_id is not None and token_id.count(".") == 2:
        try:
            token_id = token_id_of(token_id)
        except (jwt.PyJWTError, KeyError) as error:
            raise ConfigError("That token has no `jti` to revoke it by; revoke those of its --subject.") from error
    try:
        moment = datetime.fromisoformat(before) if before else now
    except ValueError as error:
        raise ConfigError(f"{before!r} is no time; write one such as 2026-01-31T09:00:00Z.") from error
    if moment.tzinfo is None:
        raise ConfigError(f"{before!r} needs its offset, such as 2026-01-31T09:00:00Z.")
    if moment > now:
        raise ConfigError("--before can't lie in the future: tokens that aren't made yet can't be revoked.")
    return Revocation(token_id, subject, moment.astimezone(UTC))


async def run_revoke(url: str, practice_id: PracticeId, revocation: Revocation) -> str:
    """Revokes; gives what to tell the operator."""
    async with Database(url, PoolSize(1, 1)) as database:
        async with database.app.acquire() as connection:
            await check_migrated(connection)
        practice = await find_practice(database.app, practice_id)
        if practice is None:
            raise ConfigError(f"There is no practice {practice_id}.")
        async with database.tenant(practice_id) as connection:
            key = await revoke(connection, practice_id, revocation)
            await record_deed(connection, practice_id, "carepost revoke", "revoke", "Token", key)
    if revocation.token_id is not None:
        which = f"the token {revocation.token_id}"
    else:
        whose = f"of {revocation.subject}" if revocation.subject is not None else "of everybody"
        which = f"the tokens {whose} issued before {revocation.issued_before.isoformat()}"
    return f"Revoked at {practice.name}: {which}. {_WITHIN}"
