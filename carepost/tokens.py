"""Tokens for people who have no identity provider yet: signed with JWT_SECRET."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import jwt

from api.roles import Role
from carepost.config import ConfigError, Settings
from mail.ids import PracticeId


def make_token(settings: Settings, practice_id: PracticeId, role: Role, subject: str, lifetime: timedelta) -> str:
    """A token (RFC 7519, HS256), with a `jti` to revoke it by.

    Raises `ConfigError` where tokens are an identity provider's to make.
    """
    if not settings.jwt_secret:
        raise ConfigError("Tokens can be made only with CAREPOST_JWT_SECRET; with CAREPOST_JWKS_URL, sign in there.")
    now = datetime.now(UTC)
    claims: dict[str, object] = {
        "sub": subject,
        "practice_id": str(practice_id),
        "role": role.value,
        "jti": uuid4().hex,
        "iat": now,
        "exp": now + lifetime,
    }
    if settings.jwt_issuer:
        claims["iss"] = settings.jwt_issuer
    if settings.jwt_audience:
        claims["aud"] = settings.jwt_audience
    return jwt.encode(claims, settings.jwt_secret, algorithm="HS256")


def token_id_of(token: str) -> str:
    """The `jti` of a token that was made here."""
    return str(jwt.decode(token, options={"verify_signature": False})["jti"])
