"""Settings: read once, from the environment, here and nowhere else; each layer is handed what it needs."""

from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self

from pydantic import Field, IPvAnyNetwork, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from api.config import ApiConfig, Limits, SignIn
from db.sealing import Sealer
from mail.status import DEFAULT_TRACKING_START

if TYPE_CHECKING:
    from workers.main import WorkerConfig

_LIMITS: Final = Limits()


class ConfigError(Exception):
    """A setting is missing or wrong; the text names it and shows a valid value."""


class Settings(BaseSettings):
    """Every setting, prefix CAREPOST_. With no DATABASE_URL or REDIS_URL the servers are embedded, in DATA_DIR."""

    model_config = SettingsConfigDict(env_prefix="CAREPOST_", extra="ignore", frozen=True)

    database_url: str | None = None
    redis_url: str | None = None
    data_dir: Path = Path(".carepost")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    public_url: str | None = None
    secret_key: Annotated[tuple[str, ...], NoDecode] = ()
    jwt_secret: str | None = None
    jwks_url: str | None = None
    jwt_issuer: str | None = None
    jwt_audience: str | None = None
    tracking_start: date = DEFAULT_TRACKING_START
    silence_hours: float = Field(default=72, gt=0)
    allowed_origins: Annotated[tuple[str, ...], NoDecode] = ()
    introspection: bool = False
    graphiql: bool = False
    queries_by_get: bool = False
    query_rows: int = Field(default=_LIMITS.query_rows, ge=1)
    requests_per_second: float = Field(default=_LIMITS.requests_per_second, ge=0)
    webhooks_per_second: float = Field(default=_LIMITS.webhooks_per_second, ge=0)
    practice_subscriptions: int = Field(default=_LIMITS.subscriptions_per_practice, ge=1)
    statement_seconds: float = Field(default=_LIMITS.statement_seconds, ge=0.1)
    body_seconds: float = Field(default=_LIMITS.body_seconds, ge=0.1)
    lease_seconds: float = Field(default=90, ge=1)
    sweep_seconds: float = Field(default=10, gt=0, le=15)
    start_seconds: float = Field(default=60, ge=0, le=3600)
    retention_days: int = Field(default=400, ge=0, le=36_500)
    enqueue: bool = True
    ask_after_hours: float = Field(default=1, gt=0)
    look_seconds: float = Field(default=300, gt=0)
    dns_server: str | None = None
    sns_url: str | None = None
    allowed_networks: Annotated[tuple[IPvAnyNetwork, ...], NoDecode] = ()
    worker_metrics_port: int | None = Field(default=None, ge=1, le=65535)
    log_json: bool = False
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("secret_key", "allowed_origins", "allowed_networks", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_way_to_sign_in(self) -> Self:
        if self.jwt_secret and self.jwks_url:
            raise ValueError("set CAREPOST_JWT_SECRET or CAREPOST_JWKS_URL, not both")
        if self.jwt_secret is not None and len(self.jwt_secret) < 32:
            raise ValueError("CAREPOST_JWT_SECRET needs 32 characters, as from `openssl rand -base64 32`")
        if any(len(key) < 32 for key in self.secret_key):
            raise ValueError("each key of CAREPOST_SECRET_KEY needs 32 characters, as from `openssl rand -base64 32`")
        return self

    @property
    def url(self) -> str:
        """How the world reaches us."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    def needed(self, name: str, example: str) -> str:
        """A setting that a server's own process can't do without; raises `ConfigError`."""
        value = getattr(self, name)
        if not value:
            raise ConfigError(f"Set CAREPOST_{name.upper()}, for example {example}")
        return str(value)

    def needed_database_url(self) -> str:
        return self.needed("database_url", "postgresql://carepost@db.example.com/carepost")

    def sealer(self) -> Sealer:
        if not self.secret_key:
            raise ConfigError("Set CAREPOST_SECRET_KEY, for example to the output of `openssl rand -base64 32`")
        return Sealer(self.secret_key)

    def sign_in(self) -> SignIn:
        if not (self.jwt_secret or self.jwks_url):
            raise ConfigError(
                "Set CAREPOST_JWT_SECRET (`openssl rand -base64 32`) or CAREPOST_JWKS_URL "
                "(https://login.example.com/.well-known/jwks.json)"
            )
        return SignIn(self.jwt_secret, self.jwks_url, self.jwt_issuer, self.jwt_audience)

    def api(self) -> ApiConfig:
        return ApiConfig(
            database_url=self.needed_database_url(),
            redis_url=self.needed("redis_url", "redis://valkey.example.com:6379"),
            sealer=self.sealer(),
            sign_in=self.sign_in(),
            public_url=self.url,
            tracking_start=self.tracking_start,
            silence=timedelta(hours=self.silence_hours),
            allowed_origins=self.allowed_origins,
            introspection=self.introspection,
            graphiql=self.graphiql,
            queries_by_get=self.queries_by_get,
            limits=Limits(
                query_rows=self.query_rows,
                requests_per_second=self.requests_per_second,
                webhooks_per_second=self.webhooks_per_second,
                subscriptions_per_practice=self.practice_subscriptions,
                statement_seconds=self.statement_seconds,
                body_seconds=self.body_seconds,
            ),
            enqueue=self.enqueue,
            patience=self.start_seconds,
            sns_url=self.sns_url,
        )

    def worker(self) -> "WorkerConfig":
        # Here, and not above: all of what workers need is nothing to the API's process, and to `up`.
        from workers.main import WorkerConfig

        return WorkerConfig(
            database_url=self.needed_database_url(),
            redis_url=self.needed("redis_url", "redis://valkey.example.com:6379"),
            sealer=self.sealer(),
            lease=timedelta(seconds=self.lease_seconds),
            sweep_interval=timedelta(seconds=self.sweep_seconds),
            allowed_networks=self.allowed_networks,
            enqueue=self.enqueue,
            patience=self.start_seconds,
            ask_after=timedelta(hours=self.ask_after_hours),
            look_every=timedelta(seconds=self.look_seconds),
            sns_url=self.sns_url,
            retention=timedelta(days=self.retention_days) if self.retention_days else None,
            metrics=None if self.worker_metrics_port is None else (self.host, self.worker_metrics_port),
        )


def read_settings() -> Settings:
    """The settings of this process; raises `ConfigError` naming what is wrong."""
    try:
        return Settings()
    except ValidationError as error:
        wrong = "; ".join(
            f"CAREPOST_{'_'.join(str(part) for part in entry['loc']).upper()}: {entry['msg']}"
            if entry["loc"]
            else entry["msg"].removeprefix("Value error, ")
            for entry in error.errors()
        )
        raise ConfigError(wrong) from error
