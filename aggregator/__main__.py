"""Runs aggregator: `python -m aggregator`."""

from aggregator.settings import Settings
from aggregator.wiring import wire
from mesh.lifecycle import run

if __name__ == "__main__":
    run("aggregator", Settings, wire)
