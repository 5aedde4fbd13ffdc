"""Services of other teams whose methods clients may call: where they are, and what their protos say of them.

A team names its service in TEAM_SERVICES, and the descriptor set of its protos in TEAM_PROTOS.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from edge.comments import comments
from messenger.common.v1 import options_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class Teams:
    """What other teams offer to clients.

    Attributes:
        addresses: gRPC target of each service, by its full name.
        services: their descriptors.
        described: the comments in their protos, by full name.
    """

    addresses: Mapping[str, str]
    services: tuple[ServiceDescriptor, ...]
    described: Mapping[str, str]


def load(entries: Iterable[str], sets: Iterable[Path]) -> Teams:
    """Reads what the settings name.

    Args:
        entries: `package.Service=address` each.
        sets: files of descriptor sets, with all imports.

    Raises:
        ValueError: something is wrong with an entry or a file; names it and the cure.
    """
    addresses = _addresses(entries)
    described: dict[str, str] = {}
    known: dict[str, ServiceDescriptor] = {}
    for path in sets:
        files = _read(path)
        described |= comments(files)
        for service in _services(path, files):
            if service.full_name in addresses and service.full_name in known:
                raise ValueError(f"TEAM_PROTOS: {path} has {service.full_name}, as another file has")
            known[service.full_name] = service
    services = tuple(_named(name, known) for name in addresses)
    return Teams(addresses=addresses, services=services, described=described)


def _addresses(entries: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in entries:
        name, _, address = entry.partition("=")
        if not name or not address:
            raise ValueError(f"TEAM_SERVICES: {entry!r} is not package.Service=address")
        if name in found:
            raise ValueError(f"TEAM_SERVICES: {name} stands there twice; one target can name many addresses")
        found[name] = address
    return found


def _read(path: Path) -> list[FileDescriptorProto]:
    try:
        return list(FileDescriptorSet.FromString(path.read_bytes()).file)
    except OSError as error:
        raise ValueError(f"TEAM_PROTOS: {path}: {error.strerror}") from None
    except DecodeError:
        raise ValueError(
            f"TEAM_PROTOS: {path} is no descriptor set; protoc --descriptor_set_out or buf build makes one"
        ) from None


def _services(path: Path, files: Iterable[FileDescriptorProto]) -> list[ServiceDescriptor]:
    pool = DescriptorPool()  # its own: what a team was built against meets neither ours nor another team's
    found: list[ServiceDescriptor] = []
    for file in files:
        try:
            pool.Add(file)
        except TypeError as error:
            raise ValueError(
                f"TEAM_PROTOS: {path}: {file.name}: {error}; a set needs all imports (--include_imports)"
            ) from None
        found += pool.FindFileByName(file.name).services_by_name.values()
    return found


def _named(name: str, known: Mapping[str, ServiceDescriptor]) -> ServiceDescriptor:
    if name not in known:
        there = ", ".join(sorted(known)) or "none"
        raise ValueError(f"TEAM_SERVICES: no file of TEAM_PROTOS has {name}. Their services: {there}")
    service = known[name]
    if not any(method.GetOptions().HasExtension(options_pb2.jsonrpc) for method in service.methods):
        raise ValueError(f"TEAM_SERVICES: no method of {name} has the option messenger.common.v1.jsonrpc")
    return service
