"""What a role may do, declared on each field that changes something or shows what only some may see."""

from typing import Any, ClassVar

from strawberry.permission import BasePermission

from api.graphql.context import Info
from api.graphql.errors import ApiError
from api.roles import Role


class _Needs(BasePermission):
    roles: ClassVar[frozenset[Role]]
    error_extensions = {"code": "FORBIDDEN"}  # noqa: RUF012 - the library's own attribute

    def has_permission(self, source: Any, info: Info, **_: Any) -> bool:
        return info.context.principal.role in self.roles

    def on_unauthorized(self) -> None:
        raise ApiError(self.message or "", "FORBIDDEN")


class MaySend(_Needs):
    """Writes to patients and keeps their data: STAFF and ADMIN."""

    message = "Your role may read, not change. Sign in as STAFF or ADMIN."
    roles = frozenset({Role.STAFF, Role.ADMIN})


class MaySeeWebhooks(_Needs):
    """Sees what became of webhooks, and has them read again: ADMIN alone."""

    message = "Only an ADMIN may see webhooks."
    roles = frozenset({Role.ADMIN})


class MaySetUp(_Needs):
    """Sets up sending accounts: ADMIN alone."""

    message = "Only an ADMIN may set up sending accounts."
    roles = frozenset({Role.ADMIN})
