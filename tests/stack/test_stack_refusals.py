"""What the stack says when it cannot start, before anything runs."""

import socket
from pathlib import Path

import pytest

from mesh.stack import Stack, StackError, StackSettings, Stage, binaries, ports


def test_taken_port_is_named_with_program_and_cure(small: Stack) -> None:
    """A taken port is refused before anything starts; the text names port, program and setting."""
    port = small.settings.stack_port_base + 31
    with socket.create_server(("127.0.0.1", port)), pytest.raises(StackError) as refused:
        small.up(attached=True)
    assert str(refused.value).startswith(f"Port {port} is taken, redis-1 needs it.")
    assert "STACK_PORT_BASE" in str(refused.value)
    assert not (small.settings.directory / "supervisord.conf").exists()


def test_missing_servers_are_named_in_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the servers reads one message with all that is missing, and both cures."""
    for name in ("MONGO_SHARDS", "AMQP_URL", "REDIS_URLS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(StackError) as refused:
        binaries.find(StackSettings(), path=str(tmp_path))
    text = str(refused.value)
    assert "apt-get install --no-install-recommends nginx-light rabbitmq-server redis-server" in text
    for name in (
        "redis-server",
        "rabbitmq-server",
        "epmd",
        "nginx",
        "MONGO_SHARDS",
        "AMQP_URL",
        "REDIS_URLS",
    ):
        assert name in text


def test_servers_elsewhere_need_no_programs(tmp_path: Path) -> None:
    """Programs of servers that run elsewhere are not asked for."""
    settings = StackSettings(mongo_shards=("mongodb://a",), amqp_url="amqp://b", redis_urls=("redis://c",))
    with pytest.raises(StackError) as refused:
        binaries.find(settings, path=str(tmp_path))
    assert str(refused.value).startswith("This machine lacks: nginx.")


def test_two_sessions_get_different_ports() -> None:
    """A block that is given away is not given to a second one."""
    first = ports.reserve_block()
    with first.guard:
        second = ports.reserve_block([first.base, first.base + ports.BLOCK])
        with second.guard:
            assert second.base == first.base + ports.BLOCK


def test_program_that_dies_shows_its_log(small: Stack) -> None:
    """A server that dies at its start is named with the end of its log, and the rest is stopped again."""
    broken = small.settings.directory / "data" / "redis-1" / "appendonlydir"
    broken.mkdir(parents=True)
    (broken / "appendonly.aof.manifest").write_text("nonsense")
    with pytest.raises(StackError, match="redis-1 died at its start") as died:
        small.up(until=Stage.SERVERS, attached=True)
    assert "AOF" in str(died.value)
    assert not small.alive()
    assert not ports.taken(small.settings.stack_port_base + 30)


def test_too_long_directory_is_refused(small_settings: StackSettings) -> None:
    """A directory too deep for a unix socket is refused with the setting that moves it."""
    deep = small_settings.stack_dir / ("x" * 100)
    with pytest.raises(StackError, match="STACK_DIR"):
        Stack(small_settings.model_copy(update={"stack_dir": deep})).up(attached=True)
