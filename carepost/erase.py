"""`carepost erase`: what is known of a patient removed for good."""

from uuid import UUID

from rich.console import Console

from carepost.config import ConfigError, Settings
from db.erasing import StillSending, erase_patient
from db.pool import Database, PoolSize
from mail.ids import PracticeId


async def run_erase(settings: Settings, practice_id: PracticeId, patient_id: UUID) -> None:
    """Erases one patient and says what that removed; raises `ConfigError` when there is none such."""
    url = settings.needed_database_url()
    async with Database(url, PoolSize(1, 2)) as database:
        try:
            erased = await erase_patient(database, settings.sealer(), practice_id, patient_id, "carepost erase")
        except StillSending as error:
            raise ConfigError(str(error)) from error
    if erased is None:
        raise ConfigError("There is no such patient in this practice.")
    Console(stderr=True).print(
        f"Erased: name, address and consent; the content of {erased.messages} messages, of which {erased.cancelled} "
        f"were cancelled first; {erased.webhooks} stored webhooks. Backups made before hold them still.",
        highlight=False,
        soft_wrap=True,
    )
