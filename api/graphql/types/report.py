"""DeliveryReport: how many messages stand at each status."""

from datetime import date

import strawberry

from mail.status import MessageStatus


@strawberry.type(description="How many messages stand at a status.")
class DeliveryReportRow:
    status: MessageStatus = strawberry.field(description="The status.")
    label: str = strawberry.field(description="The status in words.")
    count: int = strawberry.field(description="Messages with it; 0 is listed too.")


@strawberry.type(description="Messages queued on the days from `from` to `to`, both included, in the practice's zone.")
class DeliveryReport:
    from_: date = strawberry.field(name="from", description="The first day.")
    to: date = strawberry.field(description="The last day.")
    total: int = strawberry.field(description="All messages of these days.")
    rows: list[DeliveryReportRow] = strawberry.field(description="One row for each status, in the order of a life.")
