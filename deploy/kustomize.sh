#!/usr/bin/env bash
# Prints the command that builds a kustomization on this machine: `kubectl kustomize`, `kustomize build`, or one
# that is made here from kustomize's own source, once. Nobody but its authors publishes a binary that one would
# want to trust, and Debian's kubectl is of 2021; Go checks the source against its public checksum database.
#
#     $(deploy/kustomize.sh) deploy/overlays/prod
set -euo pipefail
cd "$(dirname "$0")/.."

MODULE=sigs.k8s.io/kustomize/kustomize/v5@v5.0.3 # the newest that Debian 12's Go can build
ours=$PWD/.cache/bin/kustomize

have() { command -v "$1" >/dev/null; }

# build: from source, with Debian's Go where there is none; some 45 s of CPU.
build() {
    if ! have go; then
        echo "Installing golang-go to build kustomize" >&2
        { [ "$(id -u)" = 0 ] && have apt-get && apt-get update -q &&
            DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends golang-go; } >&2 || {
            echo "This machine lacks kubectl (1.27 or newer), kustomize (5 or newer) and Go. Install one of them." >&2
            exit 1
        }
    fi
    mkdir -p "${ours%/*}"
    work=$(mktemp -d "$PWD/.cache/kustomize.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    echo "Building ${MODULE}" >&2
    GOPATH=$work/path GOCACHE=$work/cache GOBIN=$work/bin GOTOOLCHAIN=local GOFLAGS=-modcacherw CGO_ENABLED=0 \
        go install -trimpath -ldflags=-s "$MODULE" >&2
    mv "$work/bin/kustomize" "$ours"
}

if have kubectl && kubectl version --client 2>/dev/null | grep -q '^Kustomize Version: v[5-9]'; then
    echo kubectl kustomize
elif have kustomize && kustomize version 2>/dev/null | grep -q 'v[5-9]'; then
    echo kustomize build
else
    [ -x "$ours" ] || build
    echo "$ours build"
fi
