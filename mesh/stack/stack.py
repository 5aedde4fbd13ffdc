"""The local stack as one object: up, down, status, and single programs for those who test faults."""

import re
import shutil
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mesh.stack import binaries, plan, ports
from mesh.stack.ca import HERE, OPERATOR, make_assertion_keys, write_secret
from mesh.stack.errors import StackError
from mesh.stack.plan import Program, Stage
from mesh.stack.settings import StackSettings
from mesh.stack.supervisor import Process, Supervisor, open_files_limit, render

PROBE_PAUSE_S = 0.05
LOG_TAIL_LINES = 15

GUEST = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
"""A label of a host's name (RFC 1123)."""

Progress = Callable[[Program, str], None]
"""Told of each program twice, with "starting" and "ready"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A program as an operator sees it; `state` is ready, not ready (`reason`: why) or supervisord's word."""

    name: str
    state: str
    reason: str
    pid: int
    uptime_s: float
    address: str

    @property
    def ready(self) -> bool:
        """Whether it does its work."""
        return self.state == "ready"


class Stack:
    """A stack in a directory of its own, running or not.

    Args:
        settings: where and with which ports; two stacks that differ in both do not meet.

    Raises:
        StackError: of every method; its text names the cure.
    """

    def __init__(self, settings: StackSettings) -> None:
        self.settings = settings
        self._supervisor = Supervisor(settings.directory)

    @cached_property
    def plan(self) -> plan.Plan:
        """The table of programs."""
        return plan.make(self.settings, binaries.find(self.settings), self.settings.secrets())

    def env(self) -> dict[str, str]:
        """Environment for clients and tests of this stack: addresses, passwords, certificates, keys."""
        return plan.environment(self.settings, self.settings.secrets())

    def guest(self, service: str) -> dict[str, str]:
        """Gives a service that is not ours a certificate; the environment by which it takes part.

        Args:
            service: its logical name. It is known to be at 127.0.0.1 and localhost, too.

        Raises:
            StackError: the name is one of the stack's own, or none that a host can have.
        """
        own = (*plan.NEEDS, OPERATOR)
        if service in own or not GUEST.fullmatch(service):
            raise StackError(
                f"{service!r} cannot be its name: small letters, digits and hyphens; not {', '.join(own)}"
            )
        plan.authority(self.settings).issue([service], places=HERE)
        make_assertion_keys(*plan.assertion_keys(self.settings))
        return {
            **{name: self.env()[name] for name in ("DBAPI_ADDRESS", "AGGREGATOR_ADDRESS", "ASSERTION_KEYS")},
            **plan.authority(self.settings).environment(service),
        }

    def up(
        self, progress: Progress = lambda *_: None, *, until: Stage = Stage.PROXY, attached: bool = False
    ) -> None:
        """Starts what does not run yet, stage after stage, and returns when all of it is ready.

        Args:
            progress: told of each program that starts and that becomes ready.
            until: the last stage to start.
            attached: the stack ends with this process, whatever ends it (call from the main thread).

        Raises:
            StackError: a server's program is missing, a port is taken, the stack runs with other settings, or
                a program died or did not become ready. What this call started is stopped again then.
        """
        config = render(self.settings.directory, self.plan.programs, open_files=open_files_limit())
        fresh = not self._supervisor.alive()
        if not fresh and config != self._supervisor.config():
            raise StackError("The stack runs with other settings. Stop it first: make down")
        started: list[Program] = []
        try:
            if fresh:
                self._prepare()
                self._supervisor.launch(config, self.plan.env, attached=attached)
            for stage in Stage:
                if stage <= until:
                    self._start([p for p in self.plan.programs if p.stage is stage], started, progress)
        except BaseException:
            if fresh:
                self.down()
            else:
                for program in reversed(started):
                    self._supervisor.stop(program)
            raise

    def _prepare(self) -> None:
        ports.require_free(
            (program.name, port, program.move) for program in self.plan.programs for port in program.ports
        )
        for program in self.plan.programs:
            plan.home(self.settings, program.name).mkdir(parents=True, exist_ok=True)
        for path, text in self.plan.files.items():
            write_secret(path, text.encode())
        make_assertion_keys(*plan.assertion_keys(self.settings))
        plan.authority(self.settings).issue((*plan.NEEDS, OPERATOR))

    def _start(self, programs: list[Program], started: list[Program], progress: Progress) -> None:
        processes = self._supervisor.processes()
        for program in programs:
            if not processes[program.name].running:
                self._supervisor.start(program)
                started.append(program)
                progress(program, "starting")
        self._await_ready(programs, progress)

    def _await_ready(self, programs: list[Program], progress: Progress) -> None:
        if not programs:
            return
        waiting, before = programs, self._supervisor.processes()
        deadline = time.monotonic() + self.settings.stack_timeout_s
        with ThreadPoolExecutor(len(programs)) as pool:
            while True:
                reasons = dict(_probe(pool, waiting))
                for program in waiting:
                    if not reasons[program.name]:
                        progress(program, "ready")
                waiting = [program for program in waiting if reasons[program.name]]
                if not waiting:
                    return
                self._require_alive(waiting, before)
                if time.monotonic() > deadline:
                    raise StackError(self._late(waiting, reasons))
                time.sleep(PROBE_PAUSE_S)

    def _require_alive(self, waiting: list[Program], before: dict[str, Process]) -> None:
        now = self._supervisor.processes()
        for program in waiting:
            process = now.get(program.name)
            if process is None or not process.running or process.pid != before[program.name].pid:
                raise StackError(f"{program.name} died at its start.\n{self._tail(program)}")

    def _late(self, waiting: list[Program], reasons: dict[str, str]) -> str:
        seconds = self.settings.stack_timeout_s
        lines = [
            f"Not ready after {seconds:.0f} s: " + ", ".join(f"{p.name} ({reasons[p.name]})" for p in waiting)
        ]
        return "\n".join((*lines, *(self._tail(program) for program in waiting)))

    def _tail(self, program: Program) -> str:
        log = self.log(program.name)
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:] if log.exists() else []
        return "\n".join((f"The end of {log}:", *(f"    {line}" for line in lines)))

    def down(self) -> None:
        """Stops everything, stage by stage; data stays. Does nothing when the stack does not run."""
        self._supervisor.shutdown()

    def alive(self) -> bool:
        """Whether the stack's supervisor runs."""
        return self._supervisor.alive()

    def wait(self) -> int:
        """Waits until an attached stack ends by itself; the supervisor's exit status."""
        return self._supervisor.wait()

    def status(self) -> list[Status]:
        """Every program, asked right now."""
        processes = self._supervisor.processes()
        programs = self.plan.programs
        with ThreadPoolExecutor(len(programs)) as pool:
            reasons = dict(
                _probe(pool, [p for p in programs if p.name in processes and processes[p.name].running])
            )
        return [self._status(program, processes.get(program.name), reasons) for program in programs]

    def _status(self, program: Program, process: Process | None, reasons: dict[str, str]) -> Status:
        if process is None or not process.running:
            state = process.state.lower() if process else "stopped"
            return Status(
                name=program.name, state=state, reason="", pid=0, uptime_s=0.0, address=program.address
            )
        reason = reasons[program.name]
        return Status(
            name=program.name,
            state="not ready" if reason else "ready",
            reason=reason,
            pid=process.pid,
            uptime_s=max(0.0, time.time() - process.started_at),
            address=program.address,
        )

    def start(self, name: str) -> None:
        """Starts one program and returns when it is ready."""
        program = self._program(name)
        if not self._supervisor.processes()[name].running:
            self._supervisor.start(program)
        self._await_ready([program], lambda *_: None)

    def stop(self, name: str) -> None:
        """Stops one program and returns when it is gone; it stays so until somebody starts it."""
        self._supervisor.stop(self._program(name))

    def restart(self, name: str) -> None:
        """Stops and starts one program, and returns when it is ready."""
        self.stop(name)
        self.start(name)

    def signal(self, name: str, signal: str) -> None:
        """Sends a signal ("KILL", "STOP", "CONT" …) to a program's process; a killed one is started again."""
        self._supervisor.signal(self._program(name), signal)

    def await_restart(self, name: str, old_pid: int) -> None:
        """Returns when a program that was killed runs again as another process, and is ready.

        Args:
            name: the program.
            old_pid: the process that was killed.
        """
        program = self._program(name)
        deadline = time.monotonic() + self.settings.stack_timeout_s
        while (process := self._supervisor.processes()[name]).pid in {0, old_pid} or not process.running:
            if time.monotonic() > deadline:
                raise StackError(f"{name} was not started again.\n{self._tail(program)}")
            time.sleep(PROBE_PAUSE_S)
        self._await_ready([program], lambda *_: None)

    def log(self, name: str) -> Path:
        """The log file of a program."""
        return self.settings.directory / "logs" / f"{name}.log"

    def remove(self) -> None:
        """Deletes the directory of a stopped stack."""
        if self.alive():
            raise StackError("The stack runs. Stop it first: make down")
        shutil.rmtree(self.settings.directory, ignore_errors=True)

    def _program(self, name: str) -> Program:
        if not self.alive():
            raise StackError("The stack does not run. Start it first: make up")
        found = [program for program in self.plan.programs if program.name == name]
        if not found:
            names = ", ".join(program.name for program in self.plan.programs)
            raise StackError(f"There is no program {name}. There are: {names}")
        return found[0]


def _probe(pool: ThreadPoolExecutor, programs: list[Program]) -> Iterable[tuple[str, str]]:
    """Asks programs side by side; yields each one's name and why it is not ready (empty: it is)."""
    return zip(
        (program.name for program in programs),
        pool.map(lambda program: program.check.probe(), programs),
        strict=True,
    )
