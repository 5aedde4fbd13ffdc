"""What the comments in proto files say of methods, messages and fields; pure.

Generated code has lost them. Descriptor sets that were built with source info have them.
"""

from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto

# Field numbers of descriptor.proto, of which a location's path is made.
_MESSAGE, _SERVICE = 4, 6  # in a file
_FIELD, _NESTED = 2, 3  # in a message
_METHOD = 2  # in a service

Path = tuple[int, ...]


def comments(files: Iterable[FileDescriptorProto]) -> dict[str, str]:
    """The comment above each method, message and field, on one line, by full name.

    Source: https://protobuf.com/docs/descriptors#source-code-info
    """
    found = {}
    for file in files:
        texts = {tuple(one.path): one.leading_comments for one in file.source_code_info.location}
        for path, name in _parts(file):
            if text := _one_line(texts.get(path, "")):
                found[name] = text
    return found


def _parts(file: FileDescriptorProto) -> Iterator[tuple[Path, str]]:
    yield from _messages(file.message_type, (_MESSAGE,), file.package)
    for index, service in enumerate(file.service):
        for number, method in enumerate(service.method):
            yield (_SERVICE, index, _METHOD, number), f"{file.package}.{service.name}.{method.name}"


def _messages(messages: Sequence[DescriptorProto], path: Path, scope: str) -> Iterator[tuple[Path, str]]:
    for index, message in enumerate(messages):
        here, name = (*path, index), f"{scope}.{message.name}"
        yield here, name
        for number, field in enumerate(message.field):
            yield (*here, _FIELD, number), f"{name}.{field.name}"
        yield from _messages(message.nested_type, (*here, _NESTED), name)


def _one_line(comment: str) -> str:
    lines = (line.strip() for line in comment.splitlines())
    return " ".join(line for line in lines if line and not line.startswith("buf:lint:"))
