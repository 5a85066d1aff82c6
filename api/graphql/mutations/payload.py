"""What every payload has in common: errors as data, collected from what the checks raise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import strawberry

from api.graphql.errors import InputRefused, UserError, refused_email
from mail.errors import InvalidEmail


@strawberry.interface(description="What a mutation answers.")
class Payload:
    errors: list[UserError] = strawberry.field(description="What was refused and why; empty when all went well.")


class Checks:
    """Checks all fields of an input before refusing it, so that a form shows every mistake at once."""

    def __init__(self) -> None:
        self.errors: list[UserError] = []

    @contextmanager
    def field(self) -> Iterator[None]:
        """Collects what is raised inside."""
        try:
            yield
        except InvalidEmail as error:
            self.errors.append(refused_email(error))
        except InputRefused as refused:
            self.errors.extend(refused.errors)

    def text(self, check: Callable[[], str], fallback: str = "") -> str:
        """What `check` gives, or the fallback when it raises."""
        checked = [fallback]
        with self.field():
            checked.append(check())
        return checked[-1]

    def done(self) -> None:
        """Raises `InputRefused` when anything was wrong."""
        if self.errors:
            raise InputRefused(*self.errors)
