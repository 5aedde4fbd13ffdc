"""Runs dbapi: `python -m dbapi`."""

from dbapi.settings import Settings
from dbapi.wiring import wire
from mesh.lifecycle import run

if __name__ == "__main__":
    run("dbapi", Settings, wire)
