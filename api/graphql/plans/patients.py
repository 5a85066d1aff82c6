"""Patients from rows."""

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final
from uuid import UUID

from api.graphql.compiled import Ahead
from api.graphql.context import Info
from api.graphql.ids import global_ids, key_cursor
from api.graphql.plans.page import Row
from api.graphql.types.patient import Patient
from db.lists import PATIENT_AT
from db.patients import Patient as PatientRow
from mail.health import EmailHealth
from mail.ids import PatientId

_HEALTH: Final = {health.value: health for health in EmailHealth}


def patient_cursor(row: Row) -> str:
    return key_cursor(row[PATIENT_AT["id"]])


def read_patient(field: Ahead, at: Mapping[str, int]) -> None:
    """Reads patients from rows that have their columns at these places, the id as it is or as text."""
    key, health = at["id"], at["email_health"]
    each: dict[str, Callable[[Sequence[Any]], Any]] = {
        "name": itemgetter(at["name"]),
        "email": itemgetter(at["email"]),
        "openTracking": itemgetter(at["open_tracking"]),
        "emailHealth": lambda row: _HEALTH[row[health]].name,
    }

    def patients(rows: list[Sequence[Any]], info: Info) -> list[Patient]:
        return [
            Patient.of(
                PatientRow(
                    PatientId(UUID(str(row[key]))),
                    row[at["name"]],
                    row[at["email"]],
                    row[at["open_tracking"]],
                    _HEALTH[row[health]],
                )
            )
            for row in rows
        ]

    for part in field.below:
        if part.name == "id":
            part.read_all(lambda rows, info: global_ids("Patient", [str(row[key]) for row in rows]), exact=True)
        elif part.name in each:
            part.read(each[part.name], exact=True)
    field.stand_in(patients)


def row_of(patient: PatientRow) -> tuple[object, ...]:
    """A row as `PATIENT_AT` says."""
    return patient.id, patient.name, patient.email, patient.open_tracking, patient.email_health.value
