"""Runs dbstore: `python -m dbstore`."""

from dbstore.settings import Settings
from dbstore.wiring import wire
from mesh.lifecycle import run

if __name__ == "__main__":
    run("dbstore", Settings, wire)
