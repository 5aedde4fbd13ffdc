#!/usr/bin/env bash
# Installs what the local stack needs. The Makefile calls it; each part does nothing when all is there.
#
#   setup.sh servers    system packages of the servers, where they are not pointed elsewhere
#   setup.sh browser    Debian's Chromium, for the browser tests
#   setup.sh metrics    Debian's Prometheus and promtool, for the tests of metrics and alerts
#   setup.sh venv       .venv from requirements.lock, and this project in it
#   setup.sh clean      removes all that can be made again; not the stack's data
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH=$PATH:/usr/sbin:/usr/local/sbin

say() { printf '\033[1m%s\033[0m\n' "== $*" >&2; }

have() { command -v "$1" >/dev/null; }

# as_root COMMAND…: as root, or by sudo when that asks for no password; fails otherwise.
as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else have sudo && sudo -n "$@"; fi
}

# install_packages PACKAGE…: with apt, where we may. Elsewhere who needs them says what is missing.
install_packages() {
    [ $# -gt 0 ] || return 0
    if ! have apt-get || ! as_root true 2>/dev/null; then
        say "Not installed, for want of root or apt: $*"
        return 0
    fi
    say "Installing system packages: $*"
    as_root apt-get update -q
    # RUNLEVEL=1: the packages' own daemons are not started; the stack starts its own, on its own ports.
    as_root env RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "$@"
}

servers() {
    local packages=()
    [ -n "${AMQP_URL:-}" ] || [ -e /usr/lib/rabbitmq/bin/rabbitmq-server ] || have rabbitmq-server ||
        packages+=(rabbitmq-server)
    [ -n "${REDIS_URLS:-}" ] || have redis-server || packages+=(redis-server)
    # mongod itself comes with requirements.lock.
    [ -n "${MONGO_SHARDS:-}" ] || have mongod || ldconfig -p | grep -q 'libcurl\.so\.4 ' || packages+=(libcurl4)
    have nginx || packages+=(nginx-light)
    install_packages "${packages[@]}"
}

browser() {
    have chromium || install_packages chromium
}

metrics() {
    have prometheus || install_packages prometheus
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

makes_venvs() { "$1" -c 'import ensurepip' 2>/dev/null; }

home_of() { "$1" -c 'import sys; print(sys.base_prefix)'; }

# The interpreter for .venv. Debian's comes first: it is compiled with profile-guided optimisation, which those of
# version managers seldom are, and a message costs a fifth less processor time on it (docs/performance.md).
interpreter() {
    local debians=/usr/bin/python3
    if is_new_enough "$debians"; then
        makes_venvs "$debians" || install_packages python3-venv >&2
        makes_venvs "$debians" && echo "$debians" && return
    fi
    echo python3
}

venv() {
    # A .venv stays with the interpreter that made it: two of them in one do not work. `make clean` gives it up.
    local own=.venv/bin/python3
    if ! makes_venvs "$own" || { [ -n "${PYTHON:-}" ] && [ "$(home_of "$PYTHON")" != "$(home_of "$own")" ]; }; then
        rm -rf .venv
        own=$(interpreter)
    fi
    local python=${PYTHON:-$own}
    if ! is_new_enough "$python"; then
        echo "Python 3.11 or newer is needed; $python is not. Name one: make PYTHON=python3.11 …" >&2
        exit 1
    fi
    say "Installing the Python packages of requirements.lock into .venv"
    "$python" -m venv .venv
    export PATH=$PWD/.venv/bin:$PATH PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
    pip install --no-input --require-hashes -r requirements.lock
    pip install --no-input --no-deps --no-build-isolation -e .
    touch .venv/.ready
}

clean() {
    if [ -e .stack/supervisord.pid ] && kill -0 "$(cat .stack/supervisord.pid)" 2>/dev/null; then
        echo "The stack runs. Stop it first: make down" >&2
        exit 1
    fi
    rm -rf .venv protos/gen dist .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
    find . -name __pycache__ -type d -prune -exec rm -rf {} +
    [ ! -e .stack ] || say "The stack's data stays in .stack/; delete it by hand when you want a new start."
}

case ${1:-} in
servers | browser | metrics | venv | clean) "$1" ;;
*) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
