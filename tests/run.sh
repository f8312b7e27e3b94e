#!/bin/sh
# Installs everything that the tests need (Debian) and runs them. Arguments go to pytest.
set -eu
cd "$(dirname "$0")/.."
sh tests/setup.sh dev clang cppcheck frama-c-base
exec .venv/bin/python -m pytest -q -n 2 "$@"
