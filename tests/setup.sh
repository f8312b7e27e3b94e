#!/bin/sh
# Installs what edgec needs on a Debian machine into the system (apt) and into .venv (pip), and prints nothing else.
# $1: the pip extras, e.g. dev. Further words: Debian packages beyond compilers and emulator.
set -eu
cd "$(dirname "$0")/.."
extras=$1
shift
packages="gcc g++ gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm python3 python3-venv $*"
missing=""
for p in $packages; do
    dpkg -s "$p" >/dev/null 2>&1 || missing="$missing $p"
done
if [ -n "$missing" ]; then
    as_root=$([ "$(id -u)" = 0 ] || echo sudo)
    $as_root apt-get update -q >&2
    # shellcheck disable=SC2086
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $missing >&2
fi
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/pip install -q -e ".[$extras]" >&2
