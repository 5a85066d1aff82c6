"""Failure: why an email was refused or came back."""

import strawberry

from api.graphql.enums import described
from mail.failure import Failure as FailureValue
from mail.failure import FailureKind

described(FailureKind)


@strawberry.type(description="Why an email was not accepted or came back.")
class Failure:
    kind: FailureKind = strawberry.field(description="What stood in the way.")
    smtp_code: int | None = strawberry.field(description="The SMTP reply code (RFC 5321), such as 550.")
    enhanced_code: str | None = strawberry.field(description="The enhanced status code (RFC 3463), such as 5.1.1.")
    reason: str = strawberry.field(description="The reply in the server's own words; may be empty.")

    @classmethod
    def of(cls, value: FailureValue) -> "Failure":
        return cls(kind=value.kind, smtp_code=value.smtp_code, enhanced_code=value.enhanced_code, reason=value.reason)
