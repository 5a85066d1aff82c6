"""Provider: an email service provider that a practice can send through, and what it needs and can tell."""

from collections.abc import Sequence

import strawberry

from api.graphql.enums import described
from mail.providers.base import Capabilities, Proof
from mail.providers.base import Provider as Adapter

described(Proof)
URL_PLACE = "{url}"
"""Where a set-up step names the webhook's URL."""


@strawberry.type(description="How an ESP can be asked what became of a message.")
class Asking:
    per_second: float = strawberry.field(description="Questions a second at most.")
    days: int = strawberry.field(description="For how many days after a message was sent.")
    needs: str = strawberry.field(description="What has to be bought or switched on at the ESP first; may be empty.")


@strawberry.type(description="What an ESP can tell and do; false means that silence there is normal.")
class AccountCapabilities:
    delivery: bool = strawberry.field(description="Reports deliveries and bounces.")
    opens: bool = strawberry.field(description="Reports opens.")
    machine_opens: bool = strawberry.field(description="Tells opens by machines from opens by people.")
    tracking_switch: bool = strawberry.field(description="Open tracking can be turned off for one message.")
    metadata: bool = strawberry.field(description="Carries our own id back, so that each event finds its message.")
    idempotency: bool = strawberry.field(
        description="A message that is handed over twice after a broken connection is one email."
    )
    proof: Proof | None = strawberry.field(
        description="How its webhooks show who sent them; null where there are none."
    )
    asking: Asking | None = strawberry.field(
        description="How it can be asked what became of a message, so that lost webhooks are found again; null when it "
        "can't."
    )
    tracking_warning: str = strawberry.field(
        description="What to set at the ESP because open tracking can't be turned off for one message; may be empty."
    )

    @classmethod
    def of(cls, value: Capabilities | None) -> "AccountCapabilities":
        """Gmail and SMTP, which have no provider, can tell nothing."""
        if value is None:
            return cls(
                delivery=False,
                opens=False,
                machine_opens=False,
                tracking_switch=False,
                metadata=False,
                idempotency=False,
                proof=None,
                asking=None,
                tracking_warning="",
            )
        asking = value.asking
        return cls(
            delivery=value.delivery,
            opens=value.opens,
            machine_opens=value.machine_opens,
            tracking_switch=value.tracking_switch,
            metadata=value.metadata,
            idempotency=value.idempotency,
            proof=value.proof,
            asking=Asking(per_second=asking.per_second, days=asking.days, needs=asking.needs) if asking else None,
            tracking_warning=value.tracking_warning,
        )


@strawberry.type(description="One value that an account of a provider needs: a field of a form.")
class CredentialField:
    name: str = strawberry.field(description="Its name in `credentials`.")
    label: str = strawberry.field(description="As people know it.")
    required: bool = strawberry.field(description="Whether it has to be there.")
    secret: bool = strawberry.field(description="Whether to hide it while it is typed.")
    choices: list[str] = strawberry.field(description="Where not empty it is one of these, the first by default.")


@strawberry.type(description="An email service provider that a practice can send through.")
class Provider:
    name: str = strawberry.field(description="Its name in `provider`, such as `sendgrid`.")
    label: str = strawberry.field(description="As people know it, such as SendGrid.")
    capabilities: AccountCapabilities = strawberry.field(description="What it can tell and do.")
    credential_fields: list[CredentialField] = strawberry.field(description="What an account of it needs.")
    set_up_steps: list[str] = strawberry.field(
        description="What to do there, in order; `{url}` stands for the webhook's URL, which an account has."
    )

    @classmethod
    def of(cls, adapter: Adapter) -> "Provider":
        return cls(
            name=adapter.name,
            label=adapter.label,
            capabilities=AccountCapabilities.of(adapter.capabilities),
            credential_fields=[
                CredentialField(
                    name=field.name,
                    label=field.label,
                    required=field.required,
                    secret=field.secret,
                    choices=list(field.choices),
                )
                for field in adapter.credential_fields
            ],
            set_up_steps=list(adapter.set_up.steps),
        )


def set_up_steps(adapter: Adapter | None, url: str | None) -> Sequence[str]:
    """What to do at the ESP, with the webhook's URL filled in; nothing for Gmail and SMTP."""
    if adapter is None:
        return []
    return [step.replace(URL_PLACE, url or URL_PLACE) for step in adapter.set_up.steps]
