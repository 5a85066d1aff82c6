"""The planned forms of `Query.patient`, `Query.messages` and `Query.patients`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from strawberry import ID

from api.graphql.compiled import Ahead
from api.graphql.compiled.hooks import Resolver
from api.graphql.context import Info
from api.graphql.ids import read_key_cursor, uuid_of
from api.graphql.plans.messages import message_cursor, read_message, read_message_with_patient
from api.graphql.plans.page import Row, RowPage, nodes, read_connection
from api.graphql.plans.patients import patient_cursor, patient_of, read_patient
from api.graphql.types.connection import page_size
from api.graphql.types.message import MessageFilter
from api.graphql.types.patient import Patient, saw_patients, searched
from api.views import View
from db.lists import MESSAGE_AT, PATIENT_AT, PATIENT_BESIDE, list_messages, list_messages_of
from db.messages import MessageFilter as FilterValue
from db.patients import list_patients
from db.position import Position

_EVERYTHING: Final = FilterValue()
_PATIENT_ID: Final = MESSAGE_AT["patient_id"]


class _PatientWithMessages:
    """A patient and the page that is asked for, or why there is none."""

    __slots__ = ("page", "patient")

    def __init__(self, patient: Patient, page: RowPage | Exception) -> None:
        self.patient = patient
        self.page = page


def plan_patient(field: Ahead) -> Resolver | None:
    """One statement, where one list of messages is asked for. The rest of the patient is there in any case."""
    lists = [part for part in field.below if part.name == "messages"]
    if len(lists) != 1:
        return None
    [messages] = lists
    messages.read(lambda found: found.page)
    read_connection(messages, message_cursor, read_message)
    field.stand_in(lambda found, info: [each.patient for each in found])

    async def resolve(source: Any, info: Info, id: ID) -> _PatientWithMessages | None:
        key = uuid_of("Patient", id)
        if key is None:
            return None
        try:
            asked = _asked(info, key, **messages.arguments(info))
        except Exception as error:  # noqa: BLE001 - it is the list's, which a patient who isn't there hasn't
            row = await info.context.load.patient.load(key)
            return _PatientWithMessages(Patient.of(row), error) if row else None
        return await _read(info, key, asked)

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


async def _read(info: Info, key: UUID, asked: _Asked) -> _PatientWithMessages | None:
    context = info.context
    if asked.wanted is None:
        row = await context.load.patient.load(key)
        if row is None:
            return None
        position = await context.database.horizon.reached()
        return _PatientWithMessages(Patient.of(row), RowPage([], 0, None, message_cursor, position))
    reached = await context.database.horizon.reached()
    rows = await list_messages_of(
        context.database.app, context.practice_id, key, asked.wanted, asked.size + 1, asked.key, context.first_tracked
    )
    if not rows:
        return None
    context.saw(View.MESSAGES, (key,))
    return _PatientWithMessages(Patient.of(patient_of(rows[0], PATIENT_BESIDE)), _page(rows, asked, reached))


def plan_messages(field: Ahead) -> Resolver | None:
    """One statement, which reads the patients where they are shown."""
    with_patient = any(part.name == "patient" for node in nodes(field) for part in node.below)
    read_connection(field, message_cursor, read_message_with_patient if with_patient else read_message)

    async def resolve(
        source: Any, info: Info, filter: MessageFilter | None = None, first: int = 25, after: str | None = None
    ) -> RowPage:
        asked = _asked(info, None, filter, first, after)
        context = info.context
        if asked.wanted is None:
            return RowPage([], 0, None, message_cursor, await context.database.horizon.reached())
        reached = await context.database.horizon.reached()
        rows = await list_messages(
            context.database.app,
            context.practice_id,
            asked.wanted,
            asked.size + 1,
            asked.key,
            context.first_tracked,
            with_patient=with_patient,
        )
        page = _page(rows, asked, reached)
        context.saw(View.MESSAGES, {row[_PATIENT_ID] for row in page.rows})
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


def _page(rows: Sequence[Row], asked: _Asked, reached: Position) -> RowPage:
    position = reached.at_most(rows[0][MESSAGE_AT["running"]])
    found = rows if rows[0][MESSAGE_AT["id"]] is not None else []
    return RowPage(found, asked.size, asked.after, message_cursor, position)
