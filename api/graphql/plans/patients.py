"""Patients from rows."""

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any, Final

from api.graphql.compiled import Ahead
from api.graphql.compiled.hooks import ReadAll
from api.graphql.context import Info
from api.graphql.ids import global_ids, key_cursor
from api.graphql.plans.page import Row
from api.graphql.types.patient import Patient
from db.lists import PATIENT_AT
from db.patients import Patient as PatientRow
from mail.health import EmailHealth

_HEALTH: Final = {health.value: health for health in EmailHealth}


def patient_cursor(row: Row) -> str:
    return key_cursor(row[PATIENT_AT["id"]])


def read_patient(field: Ahead, at: Mapping[str, int]) -> None:
    """Reads patients from rows that have their columns at these places."""
    each_key, health = itemgetter(at["id"]), at["email_health"]
    each: dict[str, Callable[[Row], Any]] = {
        "name": itemgetter(at["name"]),
        "email": itemgetter(at["email"]),
        "openTracking": itemgetter(at["open_tracking"]),
        "emailHealth": lambda row: _HEALTH[row[health]].name,
    }
    for part in field.below:
        if part.name == "id":
            part.read_all(lambda rows, info: global_ids("Patient", map(each_key, rows)), exact=True)
        elif part.name in each:
            part.read(each[part.name], exact=True)
    field.stand_in(_stand_ins(at))


def patient_of(row: Row, at: Mapping[str, int]) -> PatientRow:
    return PatientRow(
        row[at["id"]], row[at["name"]], row[at["email"]], row[at["open_tracking"]], _HEALTH[row[at["email_health"]]]
    )


def _stand_ins(at: Mapping[str, int]) -> ReadAll:
    def make(rows: list[Row], info: Info) -> list[Patient]:
        return [Patient.of(patient_of(row, at)) for row in rows]

    return make
