"""Creating and updating patients."""

import strawberry

from api.graphql.context import Info
from api.graphql.errors import ErrorCode, InputRefused, refuse
from api.graphql.ids import uuid_of
from api.graphql.mutations.payload import Checks, Payload
from api.graphql.roles import MaySend
from api.graphql.types.patient import Patient
from db import patients
from db.audit import record_deed
from mail.message import check_address, check_name


@strawberry.input(description="A new patient.")
class CreatePatientInput:
    name: str = strawberry.field(description="Full name; at most 200 characters.")
    email: str = strawberry.field(description="The address that emails go to.")
    open_tracking: bool = strawberry.field(default=True, description="Whether the patient consents to open tracking.")


@strawberry.type(description="What createPatient answers.")
class CreatePatientPayload(Payload):
    patient: Patient | None = strawberry.field(default=None, description="The new patient; null when refused.")


@strawberry.input(description="What changes of a patient; what is left out stays.")
class UpdatePatientInput:
    patient_id: strawberry.ID = strawberry.field(description="Whose data changes.")
    name: str | None = strawberry.field(default=None, description="Full name.")
    email: str | None = strawberry.field(
        default=None, description="A new address; its health is then unknown. Messages sent keep the old one."
    )
    open_tracking: bool | None = strawberry.field(default=None, description="Consent to open tracking, from now on.")


@strawberry.type(description="What updatePatient answers.")
class UpdatePatientPayload(Payload):
    patient: Patient | None = strawberry.field(default=None, description="The changed patient; null when refused.")


@strawberry.type
class PatientMutations:
    @strawberry.mutation(description="Adds a patient.", permission_classes=[MaySend])
    async def create_patient(self, info: Info, input: CreatePatientInput) -> CreatePatientPayload:
        checks = Checks()
        name = checks.text(lambda: check_name("name", input.name))
        email = checks.text(lambda: check_address("email", input.email))
        if checks.errors:
            return CreatePatientPayload(errors=checks.errors)
        context = info.context
        async with context.database.tenant(context.practice_id) as connection:
            row = await patients.create_patient(
                connection, context.practice_id, name, email, open_tracking=input.open_tracking
            )
            await record_deed(
                connection, context.practice_id, context.principal.subject, "createPatient", "Patient", row.id
            )
        return CreatePatientPayload(errors=[], patient=Patient.of(row))

    @strawberry.mutation(description="Changes a patient's data.", permission_classes=[MaySend])
    async def update_patient(self, info: Info, input: UpdatePatientInput) -> UpdatePatientPayload:
        try:
            return UpdatePatientPayload(errors=[], patient=await _update(info, input))
        except InputRefused as refused:
            return UpdatePatientPayload(errors=list(refused.errors))


async def _update(info: Info, input: UpdatePatientInput) -> Patient:
    checks = Checks()
    name = None if input.name is None else checks.text(lambda: check_name("name", input.name or ""))
    email = None if input.email is None else checks.text(lambda: check_address("email", input.email or ""))
    checks.done()
    key = uuid_of("Patient", input.patient_id)
    context = info.context
    async with context.database.tenant(context.practice_id) as connection:
        row = key and await patients.update_patient(
            connection, context.practice_id, key, name=name, email=email, open_tracking=input.open_tracking
        )
        if not row:
            raise refuse("patientId", ErrorCode.NOT_FOUND, "There is no such patient.")
        await record_deed(
            connection, context.practice_id, context.principal.subject, "updatePatient", "Patient", row.id
        )
    return Patient.of(row)
