"""The command line of the stack."""

import json
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import jwt
import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from mesh import tokens
from mesh.cli import main
from mesh.stack import Stack, StackSettings, Stage
from mesh.tls import Tls


@pytest.fixture
def environment(small_settings: StackSettings) -> dict[str, str]:
    """The small stack's settings as the command line reads them."""
    return {
        "STACK_DIR": str(small_settings.stack_dir),
        "STACK_PORT_BASE": str(small_settings.stack_port_base),
        "MESSENGER_PORT": str(small_settings.messenger_port),
        "MONGO_SHARDS": " ".join(small_settings.mongo_shards),
        "AMQP_URL": small_settings.amqp_url,
        "JWT_SECRET": "",
    }


def mesh(environment: dict[str, str], *arguments: str) -> Result:
    """Runs `python -m mesh` with these arguments."""
    return CliRunner().invoke(main, arguments, env=environment)


def test_token_is_signed_with_the_stack_secret(environment: dict[str, str], small: Stack) -> None:
    """`token` prints a token that a service with the stack's secret accepts, for as long as asked."""
    result = mesh(environment, "token", "alice", "--ttl", "60")
    claims = jwt.decode(result.stdout.strip(), small.env()["JWT_SECRET"], algorithms=["HS256"])
    assert claims["sub"] == "alice"
    assert claims["exp"] - claims["iat"] == 60


@pytest.mark.parametrize("user", ["", "a b", "ü", "x" * 65, "a\n"])
def test_token_for_no_user_id_is_refused(user: str) -> None:
    """Text that the client contract takes for no user id gets no token."""
    with pytest.raises(ValueError, match="no user id"):
        tokens.issue(user, secret="s" * 32, now=datetime.now(UTC), ttl=timedelta(seconds=1))


def test_a_guest_gets_a_certificate(environment: dict[str, str], small: Stack) -> None:
    """`guest` prints an environment whose certificate is the stack's and names the service and this host."""
    lines = mesh(environment, "guest", "deals").stdout.splitlines()
    printed = dict(line.split("=", 1) for line in lines)
    tls = Tls(*(Path(printed[name]) for name in ("TLS_CA", "TLS_CERT", "TLS_KEY")))
    certificate = x509.load_pem_x509_certificate(tls.material.certificate)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["deals", "localhost"]
    assert names.get_values_for_type(x509.IPAddress) == [IPv4Address("127.0.0.1")]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://messenger/deals"]
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(tls.material.ca))
    assert printed["DBAPI_ADDRESS"] == small.env()["DBAPI_ADDRESS"]
    assert Path(printed["ASSERTION_KEYS"]).exists()


@pytest.mark.parametrize("name", ["dbapi", "operator", "Deals", "a/b", "", "-x"])
def test_a_guest_of_a_bad_name(environment: dict[str, str], name: str) -> None:
    """Nobody gets a certificate of a service of ours, nor a name that cannot be one."""
    result = mesh(environment, "guest", "--", name)
    assert result.exit_code == 1
    assert f"{name!r} cannot be its name" in result.stderr


def test_status_of_a_stopped_stack(environment: dict[str, str]) -> None:
    """`status` shows every program as stopped, and its exit status is 1."""
    result = mesh(environment, "status", "--json")
    rows = json.loads(result.stdout)
    assert {row["state"] for row in rows} == {"stopped"}
    assert result.exit_code == 1


def test_status_of_a_running_stack(environment: dict[str, str], small: Stack) -> None:
    """`status` shows state, process and address of each program; the table has the same names."""
    small.up(until=Stage.SERVERS, attached=True)
    rows = {row["name"]: row for row in json.loads(mesh(environment, "status", "--json").stdout)}
    assert rows["redis-0"]["ready"]
    assert rows["redis-0"]["pid"] > 0
    assert rows["redis-0"]["address"] == f"127.0.0.1:{small.settings.stack_port_base + 30}"
    assert not rows["nginx"]["ready"]
    table = mesh(environment, "status").stdout
    assert all(name in table for name in rows)


def test_up_restart_and_down(environment: dict[str, str], small: Stack) -> None:
    """`up` returns when the servers are ready, `restart` gives one a new process, `down` stops all."""
    assert mesh(environment, "up", "--servers").exit_code == 0
    before = {row.name: row.pid for row in small.status()}
    assert mesh(environment, "restart", "redis-0").exit_code == 0
    after = {row.name: row.pid for row in small.status()}
    assert after["redis-0"] not in {0, before["redis-0"]}
    assert after["redis-1"] == before["redis-1"]
    assert mesh(environment, "down").exit_code == 0
    assert not small.alive()


def test_errors_are_printed_without_a_traceback(environment: dict[str, str]) -> None:
    """A refusal is the stack's own text and exit status 1."""
    result = mesh(environment, "restart", "redis-0")
    assert result.exit_code == 1
    assert result.stderr == "Error: The stack does not run. Start it first: make up\n"


def test_bad_settings_are_named_by_their_variables(environment: dict[str, str]) -> None:
    """Every setting that makes no sense is named, by its variable."""
    result = mesh(environment | {"STACK_PORT_BASE": "x", "STACK_SHARDS": "9"}, "status")
    assert result.exit_code == 1
    assert "STACK_PORT_BASE" in result.stderr
    assert "STACK_SHARDS" in result.stderr


def test_logs_of_nothing_say_what_there_is(environment: dict[str, str]) -> None:
    """`logs` before the first start says how to start."""
    result = mesh(environment, "logs")
    assert result.exit_code == 1
    assert "make up" in result.stderr


@pytest.mark.parametrize("command", [[], *([name] for name in main.commands)])
def test_every_command_has_help(command: list[str]) -> None:
    """--help is answered everywhere, without a stack."""
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
