"""The planned forms of `Query.patient`, `Query.messages` and `Query.patients`."""

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from strawberry import ID

from api.graphql.compiled import Ahead
from api.graphql.compiled.hooks import Resolver
from api.graphql.context import Info
from api.graphql.ids import read_key_cursor, uuid_of
from api.graphql.plans.columns import Columns
from api.graphql.plans.messages import message_cursor, read_message
from api.graphql.plans.page import RowPage, read_connection
from api.graphql.plans.patients import patient_cursor, read_patient, row_of
from api.graphql.types.connection import page_size
from api.graphql.types.message import MessageFilter
from api.graphql.types.patient import saw_patients, searched
from api.views import View
from db.lists import PATIENT_AT, Listed, list_messages, list_messages_of
from db.messages import MessageFilter as FilterValue
from db.patients import list_patients
from db.position import Position

_EVERYTHING: Final = FilterValue()
_PAGE: Final = len(PATIENT_AT)
_Found = Sequence[object]
"""A patient's row, and behind it the page of messages that is asked for, or the exception why there is none."""


def plan_patient(field: Ahead) -> Resolver | None:
    """One statement, where one list of messages is asked for. The rest of the patient is there in any case."""
    lists = [part for part in field.below if part.name == "messages"]
    if len(lists) != 1:
        return None
    [messages] = lists
    read_patient(field, PATIENT_AT)
    messages.read(itemgetter(_PAGE))
    columns = Columns()
    read_connection(messages, message_cursor, lambda node: read_message(node, columns))

    async def resolve(source: Any, info: Info, id: ID) -> _Found | None:
        key = uuid_of("Patient", id)
        if key is None:
            return None
        try:
            asked = _asked(info, key, **messages.arguments(info))
        except Exception as error:  # noqa: BLE001 - it is the list's, which a patient who isn't there hasn't
            patient = await info.context.load.patient.load(key)
            return (*row_of(patient), error) if patient else None
        return await _read(info, key, asked, columns.names)

    return resolve


@dataclass(frozen=True, slots=True)
class _Asked:
    """Arguments of a list of messages, read; `wanted` None when nothing can match."""

    wanted: FilterValue | None
    size: int
    after: str | None
    key: UUID | None


def _asked(
    info: Info,
    patient_id: UUID | None,
    filter: MessageFilter | None = None,
    first: int = 25,
    after: str | None = None,
) -> _Asked:
    """What a list of a patient's messages, or of the practice's, is asked for; raises `ApiError`."""
    size = page_size(info, first)
    wanted = filter.value() if filter else _EVERYTHING
    if wanted is not None and patient_id is not None and wanted.patient_id not in {None, patient_id}:
        wanted = None
    return _Asked(wanted, size, after, read_key_cursor(after) if wanted else None)


async def _read(info: Info, key: UUID, asked: _Asked, columns: tuple[str, ...]) -> _Found | None:
    context = info.context
    reached = await context.database.horizon.reached()
    if asked.wanted is None:
        patient = await context.load.patient.load(key)
        return (*row_of(patient), RowPage([], 0, None, message_cursor, reached)) if patient else None
    found = await list_messages_of(
        context.database.app,
        context.practice_id,
        key,
        asked.wanted,
        asked.size + 1,
        asked.key,
        context.first_tracked,
        columns,
    )
    if found is None:
        return None
    context.saw(View.MESSAGES, (key,))
    return (*found.patient, _page(found, asked, reached))


def plan_messages(field: Ahead) -> Resolver | None:
    """One statement, which reads the patients where they are shown."""
    columns = Columns()
    patient_id = columns.reader("patient_id")
    read_connection(field, message_cursor, lambda node: read_message(node, columns))

    async def resolve(
        source: Any, info: Info, filter: MessageFilter | None = None, first: int = 25, after: str | None = None
    ) -> RowPage:
        asked = _asked(info, None, filter, first, after)
        context = info.context
        reached = await context.database.horizon.reached()
        if asked.wanted is None:
            return RowPage([], 0, None, message_cursor, reached)
        found = await list_messages(
            context.database.app,
            context.practice_id,
            asked.wanted,
            asked.size + 1,
            asked.key,
            context.first_tracked,
            columns.names,
        )
        page = _page(found, asked, reached)
        context.saw(View.MESSAGES, set(map(patient_id, page.rows)))
        return page

    return resolve


def plan_patients(field: Ahead) -> Resolver | None:
    """Patients as the rows they are."""
    read_connection(field, patient_cursor, lambda node: read_patient(node, PATIENT_AT))

    async def resolve(source: Any, info: Info, search: str = "", first: int = 25, after: str | None = None) -> RowPage:
        size = page_size(info, first)
        context = info.context
        key = read_key_cursor(after)
        rows = await list_patients(context.database.app, context.practice_id, searched(search), size + 1, key)
        page = RowPage(rows, size, after, patient_cursor)
        saw_patients(info, search, [row[PATIENT_AT["id"]] for row in page.rows])
        return page

    return resolve


def _page(found: Listed, asked: _Asked, reached: Position) -> RowPage:
    return RowPage(found.rows, asked.size, asked.after, message_cursor, reached.at_most(found.running))
