"""What operators write on the command line, read: ids, times, and which practice is meant."""

import asyncio
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from api.graphql.ids import uuid_of
from carepost.config import ConfigError, Settings
from db.practices import list_practices
from mail.ids import PracticeId

_CALLED: Final = {"Practice": "a practice", "SendingAccount": "a sending account", "Patient": "a patient"}


def read_id(kind: str, given: str) -> UUID:
    """A plain UUID, or an id as the API gives it; raises `ConfigError`."""
    try:
        return UUID(given)
    except ValueError:
        found = uuid_of(kind, given)
    if found is None:
        raise ConfigError(f"{given!r} is no id of {_CALLED[kind]}.")
    return found


def read_moment(option: str, given: str | None) -> datetime | None:
    """A time in UTC unless it names another zone, None where none was given; raises `ConfigError`."""
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{option} {given!r} is no time; name one such as 2026-03-01T12:00Z.") from error


def which_practice(settings: Settings, given: str | None) -> PracticeId:
    """The one given, or the only one that there is; raises `ConfigError` where there are several, or none."""
    if given is not None:
        return PracticeId(read_id("Practice", given))
    practices = asyncio.run(list_practices(settings.needed_database_url()))
    if len(practices) == 1:
        return practices[0].id
    if not practices:
        raise ConfigError("There is no practice yet; make one: carepost practice 'Northgate Practice'")
    listed = "".join(f"\n  {entry.id}  {entry.name}" for entry in practices)
    raise ConfigError(f"There are several practices; name one by --practice ID:{listed}")
