import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
import pytest

SERVERS = {
    "esp": ("sandbox-esp listening on http://127.0.0.1:", ["--port", "0"]),
    "smtp": ("sandbox-smtp listening on smtp://127.0.0.1:", ["--port", "0", "--http-port", "0"]),
}


@contextmanager
def started(name: str, *more: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-W", "error", "-m", f"carepost.sandbox.{name}", *SERVERS[name][1], *more]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child, child.stdout.readline().strip()
        finally:
            child.kill()


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_says_where_it_listens_and_goes_at_a_signal(name, number):
    with started(name) as (child, line):
        assert line.startswith(SERVERS[name][0])
        assert httpx2.get(line.rpartition(" ")[2] + "/messages", trust_env=False).json() == []
        child.send_signal(number)
        out, err = child.communicate(timeout=10)
        assert (child.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_goes_when_its_stdin_ends(name):
    with started(name, "--exit-with-stdin") as (child, line):
        assert line.startswith(SERVERS[name][0])
        child.stdin.close()
        assert child.wait(timeout=10) == 0
        assert child.stderr.read() == ""
