"""Runs an edge: `python -m edge`."""

from edge.settings import Settings
from edge.wiring import wire
from mesh.lifecycle import run

if __name__ == "__main__":
    run("edge", Settings, wire)
