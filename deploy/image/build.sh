#!/usr/bin/env bash
# Builds the Python environment of an image. The Dockerfile calls it, and so does the test of the Dockerfile.
#
#   build.sh libraries DESTINATION "PART …"   a new environment with these parts of requirements.lock
#   build.sh project DESTINATION              the packages that are here, as a wheel, generated code inside
set -euo pipefail
cd "$(dirname "$0")/../.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore

# install PYTHON --[no-]compile PART…: what requirements.lock says of these parts, by hash, as ready-made wheels.
install() {
    local python=$1 bytecode=$2 list=$tools.txt
    shift 2
    python3 deploy/image/locked.py "$@" >"$list"
    "$tools/bin/python" -m pip --python "$python" install -q "$bytecode" --require-hashes --only-binary :all: -r "$list"
}

libraries() {
    local destination=$1 parts
    read -ra parts <<<"$2"
    python3 -m venv "$tools"
    python3 -m venv --without-pip "$destination"
    install "$tools/bin/python" --no-compile build
    install "$destination/bin/python" --compile "${parts[@]}"
}

project() {
    local destination=$1
    "$tools/bin/python" -m pip wheel -q --no-deps --no-build-isolation --wheel-dir "$tools/wheels" .
    "$tools/bin/python" -m pip --python "$destination/bin/python" install -q --no-deps "$tools"/wheels/*.whl
}

command=${1:?libraries or project} destination=${2:?where to}
tools=$destination.tools # beside it: stays behind in the build stage
"$command" "$destination" "${3:-runtime}"
