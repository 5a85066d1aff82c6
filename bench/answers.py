"""What servers answer, read so that answers can be compared whatever they are wrapped in."""

import base64
import json
import re
import urllib.request
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bench.processes import Server


def answer(server: Server, request: str) -> bytes:
    """The body that a request of the load is answered with. Raises `RuntimeError` for errors of GraphQL."""
    head, _, body = request.partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    url = f"http://127.0.0.1:{server.port}{first.split()[1]}"
    with urllib.request.urlopen(urllib.request.Request(url, body.encode(), headers), timeout=30) as response:
        content: bytes = response.read()
    if b'"errors"' in content:
        raise RuntimeError(f"{server.name} answers {content[:500]!r}")
    return content


def rows_of(content: bytes) -> Sequence[tuple[object, ...]]:
    """The rows that an answer shows, in order: of a message its id, subject, account and times, of a patient id, name
    and address; so far as all servers have them."""
    found: Any = json.loads(content)
    found = found.get("data", found)
    found = found.get("patient") or found
    rows = found.get("messages") or found.get("patients")
    rows = rows["nodes"] if isinstance(rows, dict) else rows
    if not rows:
        raise RuntimeError("an answer without rows")
    return [_message(row) if "subject" in row else (_uuid(row["id"]), row["name"], row["email"]) for row in rows]


def _message(row: Mapping[str, Any]) -> tuple[object, ...]:
    account = row["account"]
    times = [_second(row.get(f"{name}At", row.get(f"{name}_at"))) for name in ("queued", "sent")]
    return (_uuid(row["id"]), row["subject"], _uuid(account["id"] if isinstance(account, dict) else account), *times)


def _second(text: str | None) -> str | None:
    if text is None:
        return None
    return datetime.fromisoformat(text).astimezone(UTC).isoformat(timespec="seconds")


def _uuid(global_or_plain: str) -> str:
    if len(global_or_plain) == 36:
        return global_or_plain
    decoded = base64.urlsafe_b64decode(global_or_plain + "=" * (-len(global_or_plain) % 4)).decode()
    return str(re.findall(r"[0-9a-f-]{36}", decoded)[-1])
