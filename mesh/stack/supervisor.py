"""supervisord for the stack: its configuration (pure), its start, and XML-RPC with it on a unix socket."""

import http.client
import os
import resource
import select
import shlex
import shutil
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.stack.ca import write_secret
from mesh.stack.errors import StackError
from mesh.stack.plan import Program, Stage

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 60.0
# Longest path of a unix socket on Linux: sockaddr_un.sun_path without its final zero.
LONGEST_SOCKET_PATH = 107
RUNNING_STATES = frozenset({"STARTING", "RUNNING"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What supervisord says of a program: its state in supervisord's words, process id (0: none), start."""

    name: str
    state: str
    pid: int
    started_at: float

    @property
    def running(self) -> bool:
        """Whether there is a process."""
        return self.state in RUNNING_STATES


def render(directory: Path, programs: Iterable[Program], *, open_files: int) -> str:
    """supervisord.conf for these programs.

    Each program dies with supervisord, even when that is killed (setpriv --pdeathsig). Programs of a stage
    are one group, because supervisord stops group after group, but a group's programs side by side.

    Args:
        directory: the stack's directory, absolute.
        programs: what to supervise; nothing starts by itself.
        open_files: limit of open files for all programs.
    """
    table = list(programs)
    sections = [
        _section("supervisord", {
            "logfile": f"{directory}/logs/supervisord.log", "logfile_maxbytes": "1MB", "logfile_backups": "1",
            "pidfile": f"{directory}/supervisord.pid", "childlogdir": f"{directory}/logs",
            "directory": f"{directory}", "minfds": f"{open_files}", "silent": "true",
        }),
        _section("unix_http_server", {"file": f"{directory}/supervisor.sock", "chmod": "0700"}),
        _section("rpcinterface:supervisor", {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface",
        }),
    ]  # fmt: skip
    for stage in Stage:
        names = [program.name for program in table if program.stage is stage]
        if names:
            sections.append(
                _section(
                    f"group:{_group(stage)}", {"programs": ",".join(names), "priority": str(stage.value)}
                )
            )
    sections += [_program(directory, program) for program in table]
    return "\n".join(sections)


def _group(stage: Stage) -> str:
    return stage.name.lower()


def _section(name: str, options: Mapping[str, str]) -> str:
    lines = [f"{key} = {value.replace('%', '%%')}" for key, value in options.items()]
    return "\n".join((f"[{name}]", *lines, ""))


def _program(directory: Path, program: Program) -> str:
    command = shlex.join(("setpriv", "--pdeathsig", "TERM", "--", *program.command))
    return _section(f"program:{program.name}", {
        "command": command,
        "environment": ",".join(f'{key}="{value}"' for key, value in program.env.items()),
        "stdout_logfile": f"{directory}/logs/{program.name}.log",
        "stdout_logfile_maxbytes": "10MB", "stdout_logfile_backups": "1", "redirect_stderr": "true",
        "autostart": "false", "autorestart": "true", "startsecs": "1", "startretries": "60",
        "stopsignal": "TERM", "stopwaitsecs": "20", "stopasgroup": "true", "killasgroup": "true",
    })  # fmt: skip


class Supervisor:
    """A supervisord of one stack, running or not.

    Args:
        directory: the stack's directory, absolute.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = directory / "supervisor.sock"
        self._config = directory / "supervisord.conf"
        self._child: subprocess.Popen[bytes] | None = None

    def launch(self, config: str, env: Mapping[str, str], *, attached: bool) -> None:
        """Starts supervisord, and returns when it answers; none of the programs is started yet.

        Args:
            config: what `render` made.
            env: environment beyond this process's own, for all programs.
            attached: it ends with this process, even a killed one, and so does all that it started. Must be
                called from the main thread then: the kernel watches the thread that forks (prctl(2)).
                Else it runs on as a daemon.
        """
        self._require_tools()
        (self._directory / "logs").mkdir(parents=True, exist_ok=True)
        write_secret(self._config, config.encode())  # services are told their passwords in it
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(self._config)]
        if attached:
            command = ["setpriv", "--pdeathsig", "TERM", "--", *command, "--nodaemon"]
        errors = self._directory / "logs" / "supervisord.err"
        with errors.open("wb") as output:
            # Its own session: Ctrl-C is for us, who then stop things in order.
            child = subprocess.Popen(  # noqa: S603 - arguments are ours
                command,
                env=os.environ | dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        if attached:
            self._child = child
        elif child.wait() != 0:
            raise StackError(f"supervisord did not start:\n{errors.read_text()}")
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.alive():
            if child.poll() or time.monotonic() > deadline:
                raise StackError(f"supervisord did not start:\n{errors.read_text()}")
            time.sleep(0.02)

    def _require_tools(self) -> None:
        if shutil.which("setpriv") is None:
            raise StackError("This machine lacks setpriv. Install the package util-linux.")
        if len(str(self._socket)) > LONGEST_SOCKET_PATH:
            raise StackError(f"{self._socket} is too long for a socket. Choose a shorter STACK_DIR.")

    def alive(self) -> bool:
        """Whether supervisord answers."""
        try:
            self._call("getState")
        except OSError:
            return False
        return True

    def config(self) -> str:
        """The configuration that it was last started with; empty when never."""
        return self._config.read_text() if self._config.exists() else ""

    def processes(self) -> dict[str, Process]:
        """Every program by name; none when supervisord does not run."""
        try:
            rows = self._call("getAllProcessInfo")
        except OSError:
            return {}
        return {
            row["name"]: Process(
                name=row["name"], state=row["statename"], pid=row["pid"], started_at=float(row["start"])
            )
            for row in rows
        }

    def start(self, program: Program) -> None:
        """Starts a program and does not wait for it."""
        self._call("startProcess", self._full_name(program), False)

    def stop(self, program: Program) -> None:
        """Stops a program, waits until it is gone; nothing happens to a stopped one."""
        try:
            self._call("stopProcess", self._full_name(program), True)
        except xmlrpc.client.Fault as fault:
            if "NOT_RUNNING" not in fault.faultString:
                raise

    def signal(self, program: Program, signal: str) -> None:
        """Sends a signal by its name without SIG ("KILL", "STOP" …) to a program's process."""
        self._call("signalProcess", self._full_name(program), signal)

    def shutdown(self) -> None:
        """Stops all programs, stage by stage, and supervisord; waits until it is gone."""
        try:
            self._call("shutdown")
        except OSError:
            return self._reap()
        self._await_end()
        return self._reap()

    def wait(self) -> int:
        """Waits until an attached supervisord ends; its status."""
        if self._child is None:
            raise RuntimeError("not attached")
        return self._child.wait()

    def _await_end(self) -> None:
        try:
            pid = int((self._directory / "supervisord.pid").read_text())
            watch = os.pidfd_open(pid)
        except (OSError, ValueError):
            return
        try:
            if not select.select([watch], [], [], STOP_TIMEOUT_S)[0]:
                raise StackError(
                    f"supervisord (process {pid}) does not end. Look into {self._directory}/logs."
                )
        finally:
            os.close(watch)

    def _reap(self) -> None:
        if self._child is not None:
            self._child.wait(STOP_TIMEOUT_S)
            self._child = None

    def _full_name(self, program: Program) -> str:
        return f"{_group(program.stage)}:{program.name}"

    def _call(self, method: str, *arguments: object) -> Any:
        """Calls supervisord; OSError when it does not run."""
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self._socket}")
        try:
            proxy = xmlrpc.client.ServerProxy("http://localhost", transport=transport)
            return getattr(proxy.supervisor, method)(*arguments)
        except http.client.HTTPException as error:  # it ended while it answered
            raise ConnectionError(str(error)) from error
        finally:
            transport.close()


def open_files_limit() -> int:
    """As many open files as this user may give programs, within reason."""
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 65536)
