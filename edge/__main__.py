"""Runs an edge: `python -m edge`; or the terminal chat: `python -m edge chat USER`."""

import sys


def main() -> None:
    """The service, unless the chat is asked for."""
    if sys.argv[1:2] == ["chat"]:
        from edge.terminal import run_chat

        run_chat(sys.argv[2:])
        return
    from edge.settings import Settings
    from edge.wiring import wire
    from mesh.lifecycle import run

    run("edge", Settings, wire)


if __name__ == "__main__":
    main()
