"""Errors of the GraphQL API.

User errors are data: every payload has `errors`. What is wrong with the request itself is an `ApiError` with a code.
Everything else is masked, with an id that the log has too. So every error has `extensions.code`.
"""

import traceback
from collections.abc import Sequence
from enum import Enum
from typing import Final
from uuid import uuid4

import asyncpg
import orjson
import strawberry
import structlog
from graphql import GraphQLError, GraphQLSyntaxError
from strawberry.exceptions import MissingQueryError
from strawberry.extensions import MaskErrors
from strawberry.schema.exceptions import CannotGetOperationTypeError, InvalidOperationTypeError
from strawberry.types.execution import PreExecutionError

from api.graphql.enums import described
from db.errors import BUSY, UNREACHABLE
from mail.errors import CredentialsIncomplete, InvalidEmail

# graphql.language.parser: the limits among its syntax errors.
_LIMITS: Final = {" tokens. Parsing aborted": "QUERY_TOO_LONG", "nested too deeply": "QUERY_TOO_DEEP"}
# A query that is empty, an operation name that isn't there, a subscription where none can be.
_ABOUT_OPERATION: Final = (MissingQueryError, CannotGetOperationTypeError, InvalidOperationTypeError)
_TOO_LONG: Final = "It took too long; ask for less, or try again later."
_log = structlog.get_logger("carepost.graphql")


class ApiError(GraphQLError):
    """An error that the caller may see: `code` stands in its extensions."""

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message, extensions={"code": code})


@described
class ErrorCode(Enum):
    """What is wrong with an input; stable for programs."""

    REQUIRED = "REQUIRED"
    """A value is missing or empty."""
    TOO_LONG = "TOO_LONG"
    """A value is longer than allowed; the message says how long it may be."""
    TOO_MANY = "TOO_MANY"
    """A list has more entries than allowed."""
    INVALID_ADDRESS = "INVALID_ADDRESS"
    """It is no email address."""
    INVALID_CHARACTER = "INVALID_CHARACTER"
    """A character that can't stand there, such as a line break in a subject."""
    INVALID_VALUE = "INVALID_VALUE"
    """A value is not one of those allowed."""
    NOT_FOUND = "NOT_FOUND"
    """The practice has no such object."""
    NO_ACCOUNT = "NO_ACCOUNT"
    """The practice has no sending account yet."""
    IDEMPOTENCY_KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
    """The key stands for a message with another content."""
    NOT_CANCELLABLE = "NOT_CANCELLABLE"
    """The message is no longer waiting to be sent."""


@strawberry.type(description="One thing that is wrong with an input. The mutation changed nothing.")
class UserError:
    field: str | None = strawberry.field(
        description="The input's field, `subject` or `patientIds.3`; null when it isn't about one field."
    )
    message: str = strawberry.field(description="What is wrong and how to mend it, in English, fit to be shown.")
    code: ErrorCode = strawberry.field(description="The same for programs.")


class InputRefused(Exception):
    """An input is refused: the errors become the payload's."""

    def __init__(self, *errors: UserError) -> None:
        super().__init__()
        self.errors = errors


def refuse(field: str | None, code: ErrorCode, message: str) -> InputRefused:
    return InputRefused(UserError(field=field, message=message, code=code))


def refused_email(error: InvalidEmail) -> UserError:
    return UserError(field=error.field, message=error.message, code=ErrorCode(error.code))


def refused_credentials(error: CredentialsIncomplete, field: str) -> UserError:
    return UserError(field=f"{field}.{error.field}", message=str(error), code=ErrorCode.INVALID_VALUE)


def error_body(message: str, code: str) -> bytes:
    """The body of an answer to what wasn't executed, in JSON."""
    return orjson.dumps({"errors": [{"message": message, "extensions": {"code": code}}]})


OUT_OF_REACH: Final = "The database is out of reach. Nothing was changed that you weren't told of; try again."
_IN_THE_WAY: Final = (
    "Something else changed the same just then. Nothing was changed that you weren't told of; try again."
)


class MaskUnexpected(MaskErrors):
    """Replaces unexpected errors by a sentence with an id, and logs them under it without their text, which could
    quote a patient. Gives a code to those that the library raises about a request."""

    def __init__(self) -> None:
        super().__init__(should_mask_error=_is_unexpected)

    def _process_result(self, result: object) -> None:
        errors: list[GraphQLError] | None = getattr(result, "errors", None)
        if errors:
            refused = isinstance(result, PreExecutionError)
            result.errors = self.shown(errors, refused=refused)  # type: ignore[attr-defined]

    def shown(self, errors: Sequence[GraphQLError], *, refused: bool = False) -> list[GraphQLError]:
        """The errors as a client may see them; `refused` says that nothing was executed."""
        return [self._shown(error, refused) for error in errors]

    def _shown(self, error: GraphQLError, refused: bool) -> GraphQLError:
        code = _code_of(error, refused)
        if code is None:
            return self.anonymise_error(error)
        if error.extensions and "code" in error.extensions:
            return error
        if code == "TIMEOUT":
            return GraphQLError(_TOO_LONG, error.nodes, path=error.path, extensions={"code": code})
        if code == "UNAVAILABLE":
            busy = isinstance(error.original_error, BUSY)
            said = "transactions were in each other's way" if busy else "the database is out of reach"
            _log.warning(said, error=type(error.original_error).__name__)
            message = _IN_THE_WAY if busy else OUT_OF_REACH
            return GraphQLError(
                message, error.nodes, error.source, error.positions, error.path, extensions={"code": code}
            )
        unsaid = _is_unexpected(error) and not isinstance(error.original_error, _ABOUT_OPERATION)
        message = "A value can't be read." if unsaid else error.message
        return GraphQLError(message, error.nodes, error.source, error.positions, error.path, extensions={"code": code})

    def anonymise_error(self, error: GraphQLError) -> GraphQLError:
        error_id = uuid4().hex[:12]
        original = error.original_error
        assert original is not None
        frames = traceback.extract_tb(original.__traceback__)
        _log.error(
            "unexpected error",
            error_id=error_id,
            error=type(original).__name__,
            where=[f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames[-6:]],
        )
        return GraphQLError(
            f"Something went wrong on our side. Tell your operator this id: {error_id}",
            nodes=error.nodes,
            path=error.path,
            extensions={"code": "INTERNAL_ERROR", "id": error_id},
        )


def _is_unexpected(error: GraphQLError) -> bool:
    return error.original_error is not None and not isinstance(error.original_error, GraphQLError)


def _code_of(error: GraphQLError, refused: bool) -> str | None:
    """The code of an error; None when it is unexpected. `refused` says that nothing was executed."""
    if error.extensions and "code" in error.extensions:
        return str(error.extensions["code"])
    if isinstance(error, GraphQLSyntaxError):
        return next((code for sign, code in _LIMITS.items() if sign in error.message), "GRAPHQL_PARSE_FAILED")
    if isinstance(error.original_error, _ABOUT_OPERATION):
        return "BAD_REQUEST"
    if isinstance(error.original_error, asyncpg.QueryCanceledError):
        return "TIMEOUT"
    if isinstance(error.original_error, BUSY):
        return "UNAVAILABLE"
    if isinstance(error.original_error, UNREACHABLE) and not isinstance(error.original_error, asyncpg.DataError):
        return "UNAVAILABLE"
    if refused and error.path is None:
        # What is no GraphQLError here comes of a literal: an integer of 5,000 digits.
        return "GRAPHQL_VALIDATION_FAILED"
    return None if _is_unexpected(error) else "BAD_USER_INPUT"
