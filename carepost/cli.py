"""The command line: `carepost COMMAND`."""

import asyncio
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

import typer
from rich.console import Console

from api.roles import Role
from carepost.config import ConfigError, Settings, read_settings
from carepost.supervised import be_told, importing
from db.errors import StoreError
from db.inbox import Only, Stored
from mail.ids import PracticeId

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Sends a practice's emails to its patients and shows, honestly and live, what became of each one.",
)
_err = Console(stderr=True)

WhichPractice = Annotated[str | None, typer.Option(help="Id of the practice; needed where there are several.")]
AccountsOf = Annotated[str | None, typer.Option(help="Id of a practice: its accounts alone.")]


@app.command()
def demo(
    quiet: Annotated[bool, typer.Option(help="No trickle of new emails.")] = False,
) -> None:
    """A practice with patients and messages, a sandbox in place of an ESP, and the page: everything on this machine."""
    from carepost.demo import run_demo

    asyncio.run(run_demo(_settings(), trickle=not quiet))


@app.command()
def up() -> None:
    """API and worker on this machine, with embedded servers unless DATABASE_URL and REDIS_URL say otherwise."""
    from carepost.up import run_up

    asyncio.run(run_up(_settings()))


@app.command()
def api() -> None:
    """The API alone; any number of them may run."""
    with importing():
        from carepost.serve import serve_api
    be_told()
    serve_api(_settings())


@app.command()
def worker() -> None:
    """A worker alone; any number of them may run."""
    with importing():
        from carepost.work import serve_worker
    be_told()
    serve_worker(_settings())


@app.command()
def migrate() -> None:
    """Brings the database up to date; safe to run twice, or from two places at once."""
    from db.migrate import migrate as apply

    url = _beside().needed_database_url()
    applied = asyncio.run(apply(url))
    for migration in applied:
        typer.echo(f"applied {migration.name}")
    if not applied:
        typer.echo("the database is up to date")


@app.command()
def practice(
    name: Annotated[str, typer.Argument(help="As patients know it.")],
    time_zone: Annotated[str, typer.Option(help="IANA name, such as Europe/Berlin.")] = "UTC",
) -> None:
    """Sets up a practice and prints its id."""
    from db.practices import create_practice

    try:
        zone = ZoneInfo(time_zone)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigError(f"{time_zone!r} is no time zone; name one such as Europe/Berlin.") from error
    url = _beside().needed_database_url()
    typer.echo(str(asyncio.run(create_practice(url, name, zone)).id))


@app.command()
def token(
    role: Annotated[Role, typer.Option(help="What its bearer may do.", case_sensitive=False)] = Role.STAFF,
    practice: WhichPractice = None,
    subject: Annotated[str, typer.Option(help="Who it is for; the audit trail names them.")] = "carepost token",
    hours: Annotated[float, typer.Option(help="How long it holds.", min=0.01, max=24 * 90)] = 12,
) -> None:
    """Prints a token to sign in with, alone on the last line."""
    from carepost.given import which_practice
    from carepost.tokens import make_token

    settings = _beside()
    practice_id = which_practice(settings, practice)
    typer.echo(make_token(settings, practice_id, role, subject, timedelta(hours=hours)))


@app.command()
def revoke(
    subject: Annotated[str | None, typer.Option(help="All tokens of this person, by their `sub`.")] = None,
    token_id: Annotated[str | None, typer.Option(help="One token, by its `jti`, or the token itself.")] = None,
    before: Annotated[
        str | None, typer.Option(help="Those issued before this time (now, unless given), of everybody or --subject.")
    ] = None,
    practice: WhichPractice = None,
) -> None:
    """Revokes tokens: requests with them are refused, and their sockets closed, within seconds."""
    from carepost.given import which_practice
    from carepost.revoke import read_revocation, run_revoke

    revocation = read_revocation(subject, token_id, before, datetime.now(UTC))
    settings = _beside()
    done = run_revoke(settings.needed_database_url(), which_practice(settings, practice), revocation)
    _err.print(asyncio.run(done), highlight=False, markup=False, soft_wrap=True)


@app.command()
def rotate_keys(
    dry_run: Annotated[bool, typer.Option(help="Only count what there is to do.")] = False,
) -> None:
    """Seals everything anew by the first SECRET_KEY; it may be stopped, and run while everything runs."""
    from carepost.rotate import run_rotate

    raise typer.Exit(asyncio.run(run_rotate(_beside(), dry_run=dry_run)))


@app.command()
def reconcile(
    practice: AccountsOf = None,
    account: Annotated[str | None, typer.Option(help="Id of an account: that one alone.")] = None,
    first: Annotated[
        datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="Sent on this day or later.")
    ] = None,
    last: Annotated[
        datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Sent on this day or earlier.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be asked about.")] = False,
) -> None:
    """Asks ESPs now what became of messages that no webhook answered for, at their pace."""
    from carepost.chosen import Choice
    from carepost.reconcile import Days, run_reconcile

    days = Days(first.date() if first else None, last.date() if last else None)
    if not asyncio.run(run_reconcile(_beside(), Choice(practice, account), days, dry_run=dry_run)):
        raise typer.Exit(1)


@app.command()
def doctor(
    account: Annotated[str | None, typer.Argument(help="Id of an account; all of them without one.")] = None,
    practice: AccountsOf = None,
) -> None:
    """Checks sending accounts from end to end and says what to do; exit code 1 when something failed."""
    from carepost.chosen import Choice
    from carepost.doctor.run import run_doctor

    if not asyncio.run(run_doctor(_beside(), Choice(practice, account))):
        raise typer.Exit(1)


@app.command()
def replay(
    practice: Annotated[str | None, typer.Option(help="Id of the practice; all of them when left out.")] = None,
    provider: Annotated[str | None, typer.Option(help="Only webhooks of this provider, such as sendgrid.")] = None,
    account: Annotated[str | None, typer.Option(help="Only webhooks of this sending account, by its id.")] = None,
    from_: Annotated[
        str | None, typer.Option("--from", help="Only webhooks received at this time or later: 2026-03-01T12:00Z.")
    ] = None,
    to: Annotated[str | None, typer.Option(help="Only webhooks received before this time.")] = None,
    only: Annotated[
        Only | None,
        typer.Option(help="Only those that could not be read, or with an event of an unknown message."),
    ] = None,
    resume: Annotated[str | None, typer.Option(help="Where to carry on, as a replay that was stopped says.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and write nothing.")] = False,
) -> None:
    """Reads stored webhooks again, adds the events that were missed, and leaves what was right.

    Ends with 3 where webhooks remain that can't be read."""
    from carepost.given import read_id, read_moment
    from carepost.replay import Resume, run_replay
    from db.practices import list_practices
    from mail.providers import PROVIDERS

    if provider is not None and provider not in PROVIDERS:
        raise ConfigError(f"{provider!r} is no provider; name one of {', '.join(PROVIDERS)}.")
    wanted = Stored(
        provider,
        read_id("SendingAccount", account) if account is not None else None,
        read_moment("--from", from_),
        read_moment("--to", to),
        only,
    )
    place = Resume.read(resume) if resume else None
    settings = _beside()
    if practice is not None:
        practices = [PracticeId(read_id("Practice", practice))]
    else:
        practices = [each.id for each in asyncio.run(list_practices(settings.needed_database_url()))]
    code = asyncio.run(run_replay(settings, practices, wanted, place, dry_run=dry_run))
    if code:
        raise typer.Exit(code)


@app.command(name="import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV in UTF-8; its first line names name, email and open_tracking.")],
    practice: WhichPractice = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be made, and write nothing.")] = False,
) -> None:
    """Makes patients from a CSV file; those of the same name and address are left as they are.

    Ends with 3 where lines were left out."""
    from carepost.given import which_practice
    from carepost.import_patients import run_import

    settings = _beside()
    imported = asyncio.run(run_import(settings, which_practice(settings, practice), file, dry_run=dry_run))
    if imported.refused:
        raise typer.Exit(3)


@app.command()
def erase(
    patient: Annotated[str, typer.Argument(help="Id of the patient.")],
    practice: WhichPractice = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Removes what is known of a patient for good: name, address, and the content of every message."""
    from carepost.erase import run_erase
    from carepost.given import read_id, which_practice

    settings = _beside()
    patient_id = read_id("Patient", patient)
    if not yes:
        typer.confirm("This can't be undone. Erase the patient?", abort=True, err=True)
    asyncio.run(run_erase(settings, which_practice(settings, practice), patient_id))


@app.command()
def audit(
    practice: WhichPractice = None,
    patient: Annotated[str | None, typer.Option(help="Only what concerns this patient, by their id.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only what this person did and saw, by their `sub`.")] = None,
    from_: Annotated[str | None, typer.Option("--from", help="At this time or later: 2026-03-01T12:00Z.")] = None,
    to: Annotated[str | None, typer.Option(help="Before this time.")] = None,
) -> None:
    """Prints who did and saw what, in order of time: a line of JSON each."""
    from carepost.audit import run_audit
    from carepost.given import read_id, read_moment, which_practice
    from db.audit import Wanted

    wanted = Wanted(
        read_moment("--from", from_),
        read_moment("--to", to),
        subject,
        read_id("Patient", patient) if patient is not None else None,
    )
    settings = _beside()
    practice_id = which_practice(settings, practice)
    asyncio.run(run_audit(settings.needed_database_url(), practice_id, wanted, typer.echo))


@app.command()
def schema(
    check: Annotated[Path | None, typer.Option(help="Fail when this file is stale, instead of printing.")] = None,
) -> None:
    """Prints the GraphQL schema."""
    from api.graphql.schema import build_schema

    _print_or_check(build_schema().as_str() + "\n", check, "schema")


@app.command()
def providers(
    check: Annotated[Path | None, typer.Option(help="Fail when this file is stale, instead of printing.")] = None,
) -> None:
    """Prints what each ESP can tell and how it is set up: docs/providers.md."""
    from carepost.providers_page import providers_page

    _print_or_check(providers_page(), check, "providers")


def _print_or_check(text: str, check: Path | None, command: str) -> None:
    if check is None:
        typer.echo(text, nl=False)
    elif not check.exists() or check.read_text() != text:
        _err.print(f"{check} is stale; run `carepost {command} > {check}`.")
        raise typer.Exit(1)


def _settings() -> Settings:
    """This process's settings, and its logs as they say."""
    from carepost.logs import set_up_logs

    settings = read_settings()
    set_up_logs(as_json=settings.log_json, level=settings.log_level)
    return settings


def _beside() -> Settings:
    from carepost.machine import settings_beside

    return settings_beside()


def main(run: Callable[[], object] = app) -> None:
    """The program: what went wrong is one line, not a traceback, when we know it."""
    from carepost.machine import AlreadyRunning
    from carepost.processes import ChildFailed
    from carepost.supervised import PortTaken

    try:
        run()
    except (ConfigError, StoreError, AlreadyRunning, ChildFailed, PortTaken) as error:
        _err.print(f"carepost: {error}", style="bold", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)
    except OSError as error:
        _err.print(f"carepost: {error}", style="bold", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)
