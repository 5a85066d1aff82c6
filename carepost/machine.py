"""One machine: what `up` and `demo` make of a folder before anything serves.

In DATA_DIR stand the embedded servers' data, the secrets made for it, a lock that one Carepost holds at a time, and,
while it runs, `run.json`: how other commands (`carepost token`) reach it.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

from carepost.config import ConfigError, Settings, read_settings
from carepost.processes import Command, Supervisor
from db.migrate import migrate

_RUN: Final = "run.json"
_SECRETS: Final = "secrets.json"


class AlreadyRunning(Exception):
    """Another Carepost holds the folder; the text says which and what to do."""


class Machine:
    """Holds the folder. Use as a context manager, before anything is started."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._directory = settings.data_dir

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._lock = (self._directory / "lock").open("a+")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._lock.close()
            raise AlreadyRunning(_who(self._directory)) from error
        return self

    def __exit__(self, *_: object) -> None:
        (self._directory / _RUN).unlink(missing_ok=True)
        self._lock.close()

    async def prepare(self, supervisor: Supervisor) -> tuple[Settings, Mapping[str, str]]:
        """Starts what is embedded and migrates; gives the settings made whole, and as an environment for children."""
        made: dict[str, str] = {}
        if not (self._settings.database_url and self._settings.redis_url):
            servers = await supervisor.start(
                Command("servers", ["carepost.embedded", str(self._directory / "servers")])
            )
            urls = json.loads(servers.ready)
            if not self._settings.database_url:
                made["database_url"] = urls["database_url"]
            if not self._settings.redis_url:
                made["redis_url"] = urls["redis_url"]
        made |= self._secrets()
        settings = Settings.model_validate(self._settings.model_dump() | made)
        await migrate(settings.needed("database_url", ""))
        environment = {f"CAREPOST_{name.upper()}": value for name, value in made.items()}
        environment |= {
            "CAREPOST_PORT": str(settings.port),
            "CAREPOST_HOST": settings.host,
            "CAREPOST_PUBLIC_URL": settings.url,
        }
        run = {"pid": os.getpid(), "url": settings.url, "environment": environment}
        _write_private(self._directory / _RUN, json.dumps(run))
        return settings, environment

    def _secrets(self) -> dict[str, str]:
        """The secrets that the environment leaves out, made once and kept beside an embedded database.

        For a database elsewhere they must be given: what this folder sealed, another one could not open.
        """
        missing = [] if self._settings.secret_key else ["secret_key"]
        if not (self._settings.jwt_secret or self._settings.jwks_url):
            missing.append("jwt_secret")
        if missing and self._settings.database_url:
            raise ConfigError(
                f"Set CAREPOST_{missing[0].upper()} (`openssl rand -base64 32`): with a database of your own, secrets "
                "are yours to keep."
            )
        path = self._directory / _SECRETS
        kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        fresh = {name: secrets.token_urlsafe(32) for name in missing if name not in kept}
        if fresh:
            kept |= fresh
            _write_private(path, json.dumps(kept))
        return {name: kept[name] for name in missing}


def settings_beside() -> Settings:
    """Settings for a command beside a running Carepost: with no DATABASE_URL, those of the one in DATA_DIR. Raises
    `ConfigError` when none runs there."""
    settings = read_settings()
    if settings.database_url:
        return settings
    environment = _running_environment(settings.data_dir)
    if environment is None:
        raise ConfigError(
            f"No Carepost runs in {settings.data_dir}. Start one (carepost up), or set CAREPOST_DATABASE_URL."
        )
    found = {name.removeprefix("CAREPOST_").lower(): value for name, value in environment.items() if value}
    return Settings.model_validate(settings.model_dump(exclude_defaults=True) | found)


def _running_environment(data_dir: Path) -> Mapping[str, str] | None:
    """The environment of the Carepost that runs in a folder; None when none does."""
    try:
        run = json.loads((data_dir / _RUN).read_text())
        with (data_dir / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                environment: Mapping[str, str] = run["environment"]
                return environment
    except (OSError, ValueError, KeyError):
        return None
    return None


def _who(directory: Path) -> str:
    try:
        run = json.loads((directory / _RUN).read_text())
        where = f" (process {run['pid']}, at {run['url']})"
    except (OSError, ValueError, KeyError):
        where = ""
    advice = "Use that one, stop it, or set CAREPOST_DATA_DIR to another folder."
    return f"Another Carepost runs in {directory}{where}. {advice}"


def _write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner can read, whole or not at all."""
    fresh = path.with_suffix(".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    fresh.replace(path)
