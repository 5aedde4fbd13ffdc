"""The table of programs: settings in; commands, environments, ports and readiness checks out. No I/O.

A new service is a row in `_services`. Who starts the programs is stack.py, with supervisord (supervisor.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

from mesh.stack import ready, templates
from mesh.stack.binaries import Binaries
from mesh.stack.settings import StackSettings

LOOPBACK = "127.0.0.1"
REDIS_NODES = 2
EDGES = 2

# Offsets from STACK_PORT_BASE, with room for members and nodes to come.
# The last port of the block (ports.BLOCK) is nobody's: it is the sign that a block is given away.
MONGO_PORT = 0  # and one more a shard
REDIS_PORT = 30  # and one more a node
RABBITMQ_PORT = 40
RABBITMQ_DIST_PORT = 41
EPMD_PORT = 49
SERVICE_PORTS = {"dbapi": 50, "antispam": 51, "dbstore": 52, "aggregator": 53}
EDGE_PORT = 60  # gRPC health, WebSocket, HTTP; and EDGE_STRIDE more an edge
EDGE_STRIDE = 3


class Stage(IntEnum):
    """When a program starts: a stage begins when all of the one before is ready, and stops before it."""

    NAMES = 1
    SERVERS = 2
    SERVICES = 3
    PROXY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A row of the table.

    Args:
        name: its name for people and for the supervisor.
        stage: when it starts.
        command: program and arguments.
        ports: what it listens on, on loopback.
        check: says whether it does its work.
        env: what its environment has beyond the plan's.
        move: the setting that moves its ports.
    """

    name: str
    stage: Stage
    command: tuple[str, ...]
    ports: tuple[int, ...]
    check: ready.Check
    env: Mapping[str, str] = field(default_factory=dict)
    move: str = "STACK_PORT_BASE"

    @property
    def address(self) -> str:
        """Where it is reached first of all."""
        return f"{LOOPBACK}:{self.ports[0]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that the stack starts.

    Args:
        programs: the table, in the order of the stages.
        env: the environment that all programs share; clients and tests use it, too.
        files: configuration to write before the start, by path.
    """

    programs: tuple[Program, ...]
    env: Mapping[str, str]
    files: Mapping[Path, str]


def make(settings: StackSettings, binaries: Binaries, secret: str) -> Plan:
    """The plan of a stack; servers that have an address in the settings are left out.

    Args:
        settings: ports, directory, existing servers.
        binaries: the programs of this machine.
        secret: the HS256 secret of the stack's tokens.
    """
    programs = [
        *(() if settings.mongo_shards else _mongods(settings, binaries)),
        *(() if settings.redis_urls else _redis_nodes(settings, binaries)),
        *(() if settings.amqp_url else _rabbitmq(settings, binaries)),
        *_services(settings, binaries),
        *_edges(settings, binaries),
        _nginx(settings, binaries),
    ]
    edges = [(edge.ports[1], edge.ports[2]) for edge in _edges(settings, binaries)]
    return Plan(
        programs=tuple(sorted(programs, key=lambda program: program.stage)),
        env=environment(settings, secret),
        files={
            home(settings, "nginx") / "nginx.conf": templates.nginx(settings.messenger_port, edges),
            home(settings, "rabbitmq") / "rabbitmq.conf": templates.RABBITMQ_CONF,
            home(settings, "rabbitmq") / "enabled_plugins": "[].\n",
        },
    )


def environment(settings: StackSettings, secret: str) -> dict[str, str]:
    """What clients, tests and every service need to reach the parts of this stack."""
    base = settings.stack_port_base
    shards = settings.mongo_shards or tuple(
        f"mongodb://{LOOPBACK}:{base + MONGO_PORT + n}/?replicaSet=shard{n}"
        for n in range(settings.stack_shards)
    )
    redis = settings.redis_urls or tuple(
        f"redis://{LOOPBACK}:{base + REDIS_PORT + n}" for n in range(REDIS_NODES)
    )
    return {
        "MONGO_SHARDS": " ".join(shards),
        "REDIS_URLS": " ".join(redis),
        "AMQP_URL": settings.amqp_url or f"amqp://guest:guest@{LOOPBACK}:{base + RABBITMQ_PORT}/",
        **{
            f"{name.upper()}_ADDRESS": f"{LOOPBACK}:{base + offset}" for name, offset in SERVICE_PORTS.items()
        },
        "JWT_SECRET": secret,
        "PUBLIC_URL": settings.messenger_url,
    }


def home(settings: StackSettings, name: str) -> Path:
    """Where a program keeps its data."""
    return settings.directory / "data" / name


def _mongods(settings: StackSettings, binaries: Binaries) -> list[Program]:
    return [_mongod(settings, binaries, shard) for shard in range(settings.stack_shards)]


def _mongod(settings: StackSettings, binaries: Binaries, shard: int) -> Program:
    name, port = f"mongo-{shard}", settings.stack_port_base + MONGO_PORT + shard
    command = (
        binaries.mongod, "--replSet", f"shard{shard}", "--port", str(port), "--bind_ip", LOOPBACK,
        "--nounixsocket", "--dbpath", str(home(settings, name)), "--quiet",
        # Small: eight of them share a laptop.
        "--wiredTigerCacheSizeGB", "0.25", "--oplogSize", "64",
        # Else each takes 300 MB of journal before the first document.
        "--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)",
        "--setParameter", "diagnosticDataCollectionEnabled=false",
        # Nobody else is in the set to take over while a stopping primary waits.
        "--setParameter", "shutdownTimeoutMillisForSignaledShutdown=100",
    )  # fmt: skip
    check = ready.MongoPrimary(port=port, replica_set=f"shard{shard}")
    return Program(name=name, stage=Stage.SERVERS, command=command, ports=(port,), check=check)


def _redis_nodes(settings: StackSettings, binaries: Binaries) -> list[Program]:
    return [_redis(settings, binaries, node) for node in range(REDIS_NODES)]


def _redis(settings: StackSettings, binaries: Binaries, node: int) -> Program:
    name, port = f"redis-{node}", settings.stack_port_base + REDIS_PORT + node
    command = (
        binaries.redis, "--port", str(port), "--bind", LOOPBACK, "--dir", str(home(settings, name)),
        "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
    )  # fmt: skip
    return Program(
        name=name, stage=Stage.SERVERS, command=command, ports=(port,), check=ready.RedisPong(port=port)
    )


def _rabbitmq(settings: StackSettings, binaries: Binaries) -> list[Program]:
    """The broker, and Erlang's name server as a program of its own: else a node leaves one behind."""
    base, directory = settings.stack_port_base, home(settings, "rabbitmq")
    erlang = {
        "ERL_EPMD_PORT": str(base + EPMD_PORT),
        "ERL_EPMD_ADDRESS": LOOPBACK,
        "ERL_FLAGS": "-start_epmd false",
        "HOME": str(directory),  # Erlang's cookie is kept there
    }
    port, dist_port = base + RABBITMQ_PORT, base + RABBITMQ_DIST_PORT
    node = {
        "RABBITMQ_NODENAME": "messenger@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(dist_port),
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(directory / "rabbitmq.pid"),
        "RABBITMQ_CONF_ENV_FILE": str(directory / "none"),  # not the machine's
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
        "RABBITMQ_PLUGINS_EXPAND_DIR": str(directory / "plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none"
        " -kernel inet_dist_use_interface {127,0,0,1}",
        "detached": "1",  # the start script then becomes the broker instead of waiting beside it
    }
    return [
        Program(
            name="epmd",
            stage=Stage.NAMES,
            command=(binaries.epmd, "-port", str(base + EPMD_PORT), "-address", LOOPBACK),
            ports=(base + EPMD_PORT,),
            check=ready.PortOpen(port=base + EPMD_PORT),
            env={"HOME": str(directory)},
        ),
        Program(
            name="rabbitmq",
            stage=Stage.SERVERS,
            command=(binaries.rabbitmq,),
            ports=(port, dist_port),
            check=ready.AmqpOpen(url=f"amqp://guest:guest@{LOOPBACK}:{port}/", port=port),
            env=erlang | node,
        ),
    ]


def _services(settings: StackSettings, binaries: Binaries) -> list[Program]:
    return [
        _service(binaries, name, settings.stack_port_base + offset) for name, offset in SERVICE_PORTS.items()
    ]


def _service(binaries: Binaries, name: str, port: int) -> Program:
    """A gRPC service: `python -m <name>`, told all by its environment."""
    address = f"{LOOPBACK}:{port}"
    return Program(
        name=name,
        stage=Stage.SERVICES,
        command=(binaries.python, "-m", name),
        ports=(port,),
        check=ready.GrpcServing(target=address),
        env={"LISTEN": address},
    )


def _edges(settings: StackSettings, binaries: Binaries) -> list[Program]:
    return [_edge(settings, binaries, number) for number in range(EDGES)]


def _edge(settings: StackSettings, binaries: Binaries, number: int) -> Program:
    grpc, websocket, http = (
        settings.stack_port_base + EDGE_PORT + number * EDGE_STRIDE + n for n in range(EDGE_STRIDE)
    )
    return Program(
        name=f"edge-{number + 1}",
        stage=Stage.SERVICES,
        command=(binaries.python, "-m", "edge"),
        ports=(grpc, websocket, http),
        check=ready.HttpOk(port=http, path="/readyz"),
        env={
            "LISTEN": f"{LOOPBACK}:{grpc}",
            "WS_LISTEN": f"{LOOPBACK}:{websocket}",
            "HTTP_LISTEN": f"{LOOPBACK}:{http}",
        },
    )


def _nginx(settings: StackSettings, binaries: Binaries) -> Program:
    directory = home(settings, "nginx")
    return Program(
        name="nginx",
        stage=Stage.PROXY,
        command=(binaries.nginx, "-p", str(directory), "-c", "nginx.conf", "-e", "stderr"),
        ports=(settings.messenger_port,),
        check=ready.HttpOk(port=settings.messenger_port, path="/readyz"),
        move="MESSENGER_PORT",
    )
