"""What the API needs to know. Read from the environment by `carepost.config`, not here."""

from dataclasses import dataclass, field
from datetime import date, timedelta

from db.sealing import Sealer
from mail.status import DEFAULT_TRACKING_START


@dataclass(frozen=True, slots=True)
class SignIn:
    """How tokens are verified: by a shared secret (HS256) or by the keys of an identity provider (JWKS)."""

    secret: str | None = None
    jwks_url: str | None = None
    issuer: str | None = None
    audience: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may ask for; beyond it stands a coded error."""

    body_bytes: int = 4 << 20
    webhook_bytes: int = 16 << 20
    """No provider posts more; each has a limit of its own besides."""
    page_size: int = 200
    recipients: int = 500
    query_depth: int = 14
    query_tokens: int = 2000
    query_aliases: int = 30
    query_rows: int = 20_000
    """Rows that one operation may return; see api.graphql.cost."""
    requests_per_second: float = 100
    """Of one token, with five seconds' worth at once; 0 sets no limit."""
    webhooks_per_second: float = 1000
    """Of one account, likewise, once their signature holds."""
    statement_seconds: float = 15
    body_seconds: float = 20
    subscriptions_per_practice: int = 5000
    """In one process."""
    subscriptions_per_socket: int = 50
    socket_init_seconds: float = 10
    catch_up: int = 5000
    """Changes that a subscription may catch up on; a client that was away for longer reads the list anew."""


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """`public_url` is how the world reaches us: webhook URLs, and signatures over them, are made from it.
    `introspection` lets the schema be asked for, `graphiql` serves a page to try it, `queries_by_get` answers GET.
    `silence` is how long an answer may take before a message is called not confirmed. `sns_url` stands in for AWS's
    own hosts of SNS: for a sandbox. `patience` is how many seconds to wait at the start for Postgres to come up."""

    database_url: str
    redis_url: str
    sealer: Sealer
    sign_in: SignIn
    public_url: str
    tracking_start: date = DEFAULT_TRACKING_START
    silence: timedelta = timedelta(hours=72)
    allowed_origins: tuple[str, ...] = ()
    introspection: bool = True
    graphiql: bool = False
    queries_by_get: bool = False
    enqueue: bool = True
    sns_url: str | None = None
    patience: float = 0
    limits: Limits = field(default_factory=Limits)
