"""Runs antispam: `python -m antispam`."""

from antispam.settings import Settings
from antispam.wiring import wire
from mesh.lifecycle import run

if __name__ == "__main__":
    run("antispam", Settings, wire)
