"""The terminal chat: a client like any other, on top of `edge.client`. Needs the extra `client`."""

from collections.abc import Sequence


def run_chat(arguments: Sequence[str]) -> None:
    """`python -m edge chat`; never returns.

    Args:
        arguments: of the command line.
    """
    try:
        from edge.terminal.command import chat
    except ModuleNotFoundError as missing:
        raise SystemExit(
            f"The terminal chat needs {missing.name}: pip install 'messenger[client]'"
        ) from missing
    chat(list(arguments), prog_name="python -m edge chat")
