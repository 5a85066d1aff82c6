"""Servers: a Postgres that keeps its promises and a Valkey, in a process that takes orders.

    python -m tests.faults.servers DIRECTORY

prints their addresses as one line of JSON, then does what the lines on stdin say and answers each with a line. It stops
both when stdin ends, so a test run that is killed leaves nothing.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from carepost.embedded import EmbeddedServers


class Servers:
    """The process, seen from a test; its methods block."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.servers", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        told = json.loads(self._line())
        self.database_url: str = told["database_url"]
        self.redis_url: str = told["redis_url"]

    @property
    def postgres_socket(self) -> str:
        """The path of Postgres' Unix socket."""
        return f"{parse_qs(urlsplit(self.database_url).query)['host'][0]}/.s.PGSQL.5432"

    @property
    def valkey_port(self) -> int:
        port = urlsplit(self.redis_url).port
        assert port is not None
        return port

    def order(self, words: str) -> None:
        """`postgres crash` (immediate shutdown: no checkpoint, connections dropped), `postgres start`, `valkey stop`,
        `valkey start`."""
        assert self._process.stdin is not None
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()
        assert self._line() == "done\n", words

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@contextmanager
def running() -> Iterator[Servers]:
    """The servers in a folder of their own, gone at the end."""
    with tempfile.TemporaryDirectory(prefix="carepost-faults-", ignore_cleanup_errors=True) as folder:
        servers = Servers(Path(folder))
        try:
            yield servers
        finally:
            servers.close()


def _obey(embedded: EmbeddedServers, words: str) -> None:
    postgres: Any = embedded._postgres
    valkey: Any = embedded._valkey
    match words.split():
        case ["postgres", "crash"]:
            pid = postgres.get_pid()
            os.kill(pid, signal.SIGQUIT)
            while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
                time.sleep(0.01)
        case ["postgres", "start"]:
            _start(postgres)
        case ["valkey", "stop"]:
            valkey.stop()
        case ["valkey", "start"]:
            valkey.start()


def _start(postgres: Any) -> None:
    """The wheel waits 10 s. On a busy machine recovery takes longer; it goes on meanwhile, and is waited for again."""
    for _ in range(8):
        with suppress(subprocess.TimeoutExpired):
            postgres.start()
            return
    postgres.start()


def main() -> None:
    """Keeps both until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with EmbeddedServers(Path(sys.argv[1])) as embedded:
        print(json.dumps({"database_url": embedded.database_url, "redis_url": embedded.redis_url}), flush=True)
        for line in iter(sys.stdin.readline, ""):
            _obey(embedded, line)
            print("done", flush=True)
        _obey(embedded, "postgres start")  # its own way to stop wants it running


if __name__ == "__main__":
    main()
