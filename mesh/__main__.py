"""The command line: `python -m mesh`."""

from mesh.cli import main

main(prog_name="python -m mesh")
