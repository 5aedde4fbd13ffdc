#!/bin/sh
# Builds a team's Python code, and the descriptor set that edges read, into the directory $1.
set -eu
cd "$(dirname "$0")"
descriptors=$(python -c 'from importlib.resources import files; print(files("messenger") / "descriptors.binpb")')
python -m grpc_tools.protoc -I protos --descriptor_set_in="$descriptors" \
    --python_out="$1" --grpc_python_out="$1" \
    --include_imports --include_source_info --descriptor_set_out="$1/deals.binpb" \
    shop/deals/v1/deals.proto
