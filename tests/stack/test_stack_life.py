"""The life of a stack with real supervisord and Redis: up, faults of a program, down, death of the parent."""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from redis import Redis

from mesh.stack import Stack, StackError, StackSettings, Stage
from mesh.stack.supervisor import Supervisor

END_TIMEOUT_S = 20.0


@contextmanager
def watched(pids: list[int]) -> Iterator[list[int]]:
    """Descriptors that become readable when these processes end (pidfd_open(2))."""
    with ExitStack() as cleanup:
        descriptors = [os.pidfd_open(pid) for pid in pids]
        for descriptor in descriptors:
            cleanup.callback(os.close, descriptor)
        yield descriptors


def await_end(descriptors: list[int]) -> None:
    """Waits until all watched processes ended."""
    for descriptor in descriptors:
        assert select.select([descriptor], [], [], END_TIMEOUT_S)[0], "a process was left behind"


def pids(stack: Stack) -> list[int]:
    """Processes of the stack: supervisord first, then its programs."""
    supervisord = int((stack.settings.directory / "supervisord.pid").read_text())
    return [supervisord, *(row.pid for row in stack.status() if row.pid)]


def up(stack: Stack) -> None:
    """Starts the small stack's servers."""
    stack.up(until=Stage.SERVERS, attached=True)


def redis(stack: Stack, node: int) -> "Redis":
    """A client of one of the small stack's Redis nodes."""
    return Redis.from_url(stack.env()["REDIS_URLS"].split()[node])


def test_data_survives_a_restart(small: Stack) -> None:
    """What was written before `down` is there after the next `up`."""
    up(small)
    with redis(small, 0) as client:
        client.set("kept", "yes")
    small.down()
    up(small)
    with redis(small, 0) as client:
        assert client.get("kept") == b"yes"


def test_what_a_script_wrote_survives_a_restart(small: Stack) -> None:
    """Redis reads back also what it keeps as a transaction: all that a script wrote, as the bus does."""
    up(small)
    with redis(small, 0) as client:
        client.eval("redis.call('SET', 'one', 1) redis.call('SET', 'two', 2)", 0)
    small.restart("redis-0")
    with redis(small, 0) as client:
        assert client.mget("one", "two") == [b"1", b"2"]


def test_up_of_a_running_stack_changes_nothing(small: Stack) -> None:
    """A second `up` starts nothing anew and says nothing of taken ports."""
    up(small)
    before = pids(small)
    up(small)
    assert pids(small) == before


def test_up_with_other_settings_is_refused(small: Stack) -> None:
    """A running stack is not silently kept when the settings ask for another one."""
    up(small)
    other = small.settings.model_copy(update={"stack_port_base": small.settings.stack_port_base + 1})
    with pytest.raises(StackError, match="other settings"):
        Stack(other).up(attached=True)
    assert small.alive()


def test_progress_names_each_program_twice(small: Stack) -> None:
    """Whoever waits hears when each program starts and when it is ready."""
    heard: list[tuple[str, str]] = []
    small.up(lambda program, event: heard.append((program.name, event)), until=Stage.SERVERS, attached=True)
    assert sorted(heard) == [(f"redis-{n}", event) for n in range(2) for event in ("ready", "starting")]


def test_one_program_stops_and_starts(small: Stack) -> None:
    """A program stopped by name stays down, alone, until it is started."""
    up(small)
    small.stop("redis-0")
    states = {row.name: row.state for row in small.status()}
    assert (states["redis-0"], states["redis-1"]) == ("stopped", "ready")
    small.start("redis-0")
    assert {row.name: row.ready for row in small.status()}["redis-0"]


def test_killed_program_is_started_again(small: Stack) -> None:
    """A program that was killed, even long after its start, comes back by itself as another process."""
    up(small)
    supervisor = Supervisor(small.settings.directory)
    while (before := supervisor.processes()["redis-0"]).state != "RUNNING":  # for a second it is STARTING
        assert before.running
        time.sleep(0.05)
    with watched([before.pid]) as process:
        small.signal("redis-0", "KILL")
        await_end(process)
    small.await_restart("redis-0", before.pid)
    assert {row.name: row.pid for row in small.status()}["redis-0"] not in {0, before.pid}


def test_unknown_program_is_named_with_those_there_are(small: Stack) -> None:
    """A wrong name is answered with the right ones."""
    up(small)
    with pytest.raises(StackError, match=r"no program edge-9.*edge-1, edge-2"):
        small.restart("edge-9")


def test_down_leaves_no_process(small: Stack) -> None:
    """After `down` supervisord and all its programs are gone; a second one does nothing."""
    up(small)
    with watched(pids(small)) as processes:
        small.down()
        await_end(processes)
    small.down()


def test_daemon_outlives_its_parent_and_stops(small: Stack) -> None:
    """A stack started in the background is found, and stopped, by another process's object."""
    small.up(until=Stage.SERVERS)
    with watched(pids(small)) as processes:
        Stack(small.settings).down()
        await_end(processes)


def environment(settings: StackSettings) -> dict[str, str]:
    """The settings as `python -m mesh` reads them."""
    return os.environ | {
        "STACK_DIR": str(settings.stack_dir),
        "STACK_PORT_BASE": str(settings.stack_port_base),
        "MESSENGER_PORT": str(settings.messenger_port),
        "MONGO_SHARDS": " ".join(settings.mongo_shards),
        "AMQP_URL": settings.amqp_url,
    }


@contextmanager
def running(stack: Stack) -> Iterator["subprocess.Popen[str]"]:
    """`python -m mesh run --servers` in a process of its own, ready."""
    command = [sys.executable, "-m", "mesh", "run", "--servers"]
    with subprocess.Popen(  # noqa: S603
        command, env=environment(stack.settings), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        kill = threading.Timer(END_TIMEOUT_S, process.kill)
        kill.start()
        assert process.stdout is not None
        printed = []
        for line in process.stdout:
            printed.append(line)
            if line.startswith("The servers run"):
                break
        kill.cancel()
        assert printed
        assert printed[-1].startswith("The servers run"), "".join(printed)
        yield process


def test_killed_parent_leaves_no_process(small: Stack) -> None:
    """After SIGKILL of `run`, supervisord and all its programs end by themselves."""
    with running(small) as parent, watched(pids(small)) as processes:
        parent.kill()
        await_end(processes)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_stops_everything(small: Stack, stop: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end `run` with status 0, and by then no process is left."""
    with running(small) as parent:
        processes = pids(small)
        parent.send_signal(stop)
        assert parent.wait(END_TIMEOUT_S) == 0
        for pid in processes:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)


def test_killed_supervisor_leaves_no_process(small: Stack) -> None:
    """After SIGKILL of supervisord itself its programs end, too, and a new `up` works."""
    up(small)
    with watched(pids(small)) as processes:
        signal.pidfd_send_signal(processes[0], signal.SIGKILL)
        await_end(processes)
    small.down()
    up(small)


def test_supervisor_that_never_ran_has_no_processes(small_settings: StackSettings) -> None:
    """A stack that was never started is not alive, has no processes, and can be stopped."""
    supervisor = Supervisor(small_settings.directory)
    assert not supervisor.alive()
    assert supervisor.processes() == {}
    supervisor.shutdown()
