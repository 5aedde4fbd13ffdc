"""`python -m edge chat USER`: signs in, and hands over to the screen."""

import os
import sys
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

import click
import httpx

from edge.client import Client
from edge.rpc import subject
from edge.terminal.app import ChatApp
from mesh.tokens import USER_ID

SECONDS = 10.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("user")
@click.argument("peer", required=False, default="")
@click.option("--url", metavar="URL", help="The messenger; http://127.0.0.1:8000, or MESSENGER_PORT there.")
@click.option(
    "--token", envvar="MESSENGER_TOKEN", help="A token of USER's; MESSENGER_TOKEN keeps it out of sight."
)
def chat(user: str, peer: str, url: str | None, token: str | None) -> None:
    r"""Chat as USER in this terminal, with PEER at once where one is named.

    On a local stack (make up, make run) a name is enough. Elsewhere a token is needed.

    \b
    python -m edge chat alice
    python -m edge chat alice bob
    MESSENGER_TOKEN=… python -m edge chat alice --url https://messenger.example

    F1 lists keys and commands.
    """
    _check_user("USER", user)
    if peer:
        _check_user("PEER", peer)
    url = _checked_url(url or f"http://127.0.0.1:{os.environ.get('MESSENGER_PORT') or 8000}")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.ClickException(
            "This is no terminal: the chat needs one to draw on and to read keys from."
        )
    refresh: Callable[[], Awaitable[str]] | None = None
    if not token:
        token = _sign_in(url, user)

        async def refresh() -> str:
            async with httpx.AsyncClient(timeout=SECONDS) as http:
                return _token_in(await http.post(f"{url}/dev/token", json={"user_id": user}))

    elif subject(token) != user:
        whose = subject(token)
        said = f"is {whose}'s, not {user}'s" if whose else "is no JWT"
        raise click.BadParameter(f"The token {said}.", param_hint="--token")
    app = ChatApp(Client(url, token, refresh=refresh), user, url, peer)
    app.run()
    sys.exit(app.return_code or 0)


def _check_user(name: str, user_id: str) -> None:
    if not USER_ID.fullmatch(user_id):
        raise click.BadParameter(f"{user_id!r} is no user id: 1 to 64 of A-Z a-z 0-9 _ . -", param_hint=name)


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.BadParameter(
            f"{url!r} is no address: http://HOST:PORT or https://HOST", param_hint="--url"
        )
    return url.rstrip("/")


def _sign_in(url: str, user: str) -> str:
    """A token by the name alone, as the local stack gives it."""
    try:
        response = httpx.post(f"{url}/dev/token", json={"user_id": user}, timeout=SECONDS)
    except httpx.HTTPError as error:
        raise click.ClickException(
            f"Nothing answers at {url} ({error}). Is the messenger up? On this machine: make up"
        ) from None
    if response.status_code == httpx.codes.NOT_FOUND:
        raise click.ClickException(
            f"{url} wants a token: --token, or MESSENGER_TOKEN. Names alone are enough on a local stack only."
        )
    return _token_in(response)


def _token_in(response: httpx.Response) -> str:
    if not response.is_success:
        raise click.ClickException(f"Signing in failed: HTTP {response.status_code} {response.text[:200]}")
    return str(response.json()["token"])
