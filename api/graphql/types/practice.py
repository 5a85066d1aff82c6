"""Viewer and Practice: who asks, and for whom."""

import strawberry

from api.auth import Principal
from api.graphql.enums import described
from api.graphql.ids import global_id
from api.graphql.types.connection import Node
from api.roles import Role
from db.practices import Practice as PracticeRow

described(Role)


@strawberry.type(description="The tenant: everything belongs to one practice, and nobody sees another's.")
class Practice(Node):
    id: strawberry.ID = strawberry.field(description="Global id; opaque.")
    name: str = strawberry.field(description="As patients know it.")
    time_zone: str = strawberry.field(
        description="IANA name, such as Europe/Berlin; the practice's days are in it. Show times in it."
    )

    @classmethod
    def of(cls, row: PracticeRow) -> "Practice":
        return cls(id=global_id("Practice", row.id), name=row.name, time_zone=row.zone.key)


@strawberry.type(description="Who is signed in.")
class Viewer:
    subject: str = strawberry.field(description="The token's `sub`; the audit trail names it.")
    role: Role = strawberry.field(description="What the person may do.")
    practice: Practice = strawberry.field(description="The practice that the token is for.")

    @classmethod
    def of(cls, principal: Principal, practice: PracticeRow) -> "Viewer":
        return cls(subject=principal.subject, role=principal.role, practice=Practice.of(practice))
