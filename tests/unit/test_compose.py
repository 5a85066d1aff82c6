"""The container files say what docs/operations.md promises. Nothing is built or started: no engine is needed."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
SECRETS = ("POSTGRES_PASSWORD", "CAREPOST_SECRET_KEY", "CAREPOST_JWT_SECRET")


def compose_command() -> Sequence[str] | None:
    """The compose of this machine: the plugin of the docker client, else the program of that name."""
    docker = shutil.which("docker")
    if docker and subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode == 0:
        return [docker, "compose"]
    standalone = shutil.which("docker-compose")
    return [standalone] if standalone else None


def compose_config(env_file: Path) -> subprocess.CompletedProcess[str]:
    """`compose config` with the settings of a file and none of the machine's."""
    command = compose_command()
    if command is None:
        pytest.skip("no docker client with the compose plugin here")
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [*command, "--env-file", str(env_file), "--file", str(COMPOSE), "config"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def env_file(tmp_path: Path, left_out: str = "") -> Path:
    """.env.example, its secrets filled in but for one."""
    text = (ROOT / ".env.example").read_text()
    for number, name in enumerate(SECRETS):
        if name != left_out:
            text = text.replace(f"\n{name}=\n", f"\n{name}={number}{'a' * 40}\n")
    path = tmp_path / "env"
    path.write_text(text)
    return path


def services() -> dict[str, str]:
    """The text of each service, by name."""
    text = COMPOSE.read_text()
    block = text[text.index("\nservices:\n") + len("\nservices:\n") : text.index("\nnetworks:\n")]
    parts = re.split(r"^  ([a-z]+):\n", block, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_compose_accepts_the_file_with_the_example_filled_in(tmp_path: Path) -> None:
    result = compose_config(env_file(tmp_path))
    assert result.returncode == 0, result.stderr
    assert f"postgresql://carepost:0{'a' * 40}@postgres:5432/carepost" in result.stdout


@pytest.mark.parametrize("name", SECRETS)
def test_compose_refuses_to_start_without_a_secret(tmp_path: Path, name: str) -> None:
    result = compose_config(env_file(tmp_path, left_out=name))
    assert result.returncode != 0
    assert name in result.stderr
    assert "see .env.example" in result.stderr


def test_each_service_is_there() -> None:
    assert sorted(services()) == ["api", "mailpit", "migrate", "postgres", "valkey", "worker"]


def test_the_database_is_migrated_before_anything_uses_it() -> None:
    assert "postgres: {condition: service_healthy}" in services()["migrate"]
    for name in ("api", "worker"):
        assert "migrate: {condition: service_completed_successfully}" in services()[name]
        assert "valkey: {condition: service_healthy}" in services()[name]


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = re.findall(r'^ +- "([^"]+:\d+)"$', COMPOSE.read_text(), flags=re.MULTILINE)
    assert ports == ["127.0.0.1:${CAREPOST_PORT:-8000}:8000", "127.0.0.1:8025:8025"]


def test_every_container_gives_up_what_it_does_not_need() -> None:
    text = COMPOSE.read_text()
    for line in ("read_only: true", "cap_drop: [ALL]", 'security_opt: ["no-new-privileges:true"]'):
        assert line in text[text.index("x-hardened:") : text.index("x-carepost:")]
    for name, service in services().items():
        assert ("<<: *carepost" in service) or ("<<: *hardened" in service), name
        assert "mem_limit:" in service, name
        assert "privileged: true" not in service, name
        assert "docker.sock" not in service, name


def test_postgres_keeps_its_data_where_version_18_puts_it() -> None:
    postgres = services()["postgres"]
    assert "image: postgres:18\n" in postgres
    assert 'volumes: ["postgres:/var/lib/postgresql"]' in postgres


def test_valkey_writes_what_it_knows_and_evicts_nothing() -> None:
    valkey = services()["valkey"]
    assert '"--appendonly", "yes"' in valkey
    assert '"--maxmemory-policy", "noeviction"' in valkey


def test_no_secret_is_in_the_files() -> None:
    for name in SECRETS:
        assert f"\n{name}=\n" in (ROOT / ".env.example").read_text()
        assert f"${{{name}:?" in COMPOSE.read_text()
    assert not re.search(r"(SECRET|PASSWORD|KEY)\w*: [^$\n]", COMPOSE.read_text())


def test_the_image_installs_by_hash_and_runs_as_nobody_in_particular() -> None:
    build, final = (ROOT / "Dockerfile").read_text().split("\nFROM ")[1:]
    assert "--require-hashes --only-binary :all: -r requirements/app.txt" in build
    assert "--no-deps" in build
    assert "USER 10001:10001" in final
    assert "pip" not in final
    assert "apt-get" not in final
    assert final.endswith('ENTRYPOINT ["carepost"]\nCMD ["api"]\n')


def test_nothing_enters_the_image_unless_it_is_named() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert "!carepost/" in lines
    assert not any(line.lstrip("!").startswith(".env") for line in lines)


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    result = subprocess.run(
        [hadolint, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout
