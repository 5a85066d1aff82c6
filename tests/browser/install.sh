#!/bin/sh
# Finds a Chromium for the browser tests, or gets one: Debian's package as root, Playwright's download otherwise.
# Never fails: tests/browser says loudly what is missing and, in CI, fails itself.
python=$1
for name in chromium chromium-browser google-chrome; do
  command -v "$name" >/dev/null 2>&1 && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
  echo "Installing Debian's Chromium for the browser tests ..."
  export DEBIAN_FRONTEND=noninteractive
  { apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium fonts-liberation; } >/dev/null && exit 0
fi
echo "Downloading Playwright's Chromium for the browser tests ..."
"$python" -m playwright install chromium >/dev/null 2>&1 ||
  echo "No Chromium: the browser tests will be skipped. Get it by: apt install chromium (as root)" >&2
