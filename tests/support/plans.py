"""How Postgres carries out a statement of the store."""

import json
from collections.abc import Callable
from typing import Any

from db.pool import Pool


class Recorder:
    """In place of a pool: keeps the last statement."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.statement = ""
        self.arguments: tuple[object, ...] = ()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def ask(statement: str, *arguments: object) -> Any:
            self.statement, self.arguments = statement, arguments
            return await getattr(self._pool, name)(statement, *arguments)

        return ask


async def explain(pool: Pool, recorder: Recorder, options: str = "") -> Any:
    """The plan of the statement that the recorder has kept."""
    text = await pool.fetchval(f"EXPLAIN (FORMAT JSON{options}) {recorder.statement}", *recorder.arguments)
    return json.loads(text)[0]["Plan"]


async def blocks_read(pool: Pool, recorder: Recorder) -> int:
    """How many blocks carrying it out reads, from memory or disk."""
    plan = await explain(pool, recorder, ", ANALYZE, BUFFERS")
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
