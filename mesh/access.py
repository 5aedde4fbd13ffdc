"""Who may call what: the allow-list in the protos, and what an operator adds to it. Pure.

A method's own `method_callers` count, else its service's `callers`; what names nobody is open to nobody.
"""

from collections.abc import Iterable

from google.protobuf.descriptor import MethodDescriptor

from messenger.common.v1 import options_pb2


def callers_of(method: MethodDescriptor, extra: Iterable[str] = ()) -> frozenset[str]:
    """The services that may call a gRPC method.

    Args:
        method: its descriptor.
        extra: additions, `caller=package.Service` for all methods of a service or
            `caller=package.Service/Method` for one.
    """
    service = method.containing_service
    own = method.GetOptions().Extensions[options_pb2.method_callers]
    named = own or service.GetOptions().Extensions[options_pb2.callers]
    targets = {service.full_name, f"{service.full_name}/{method.name}"}
    added = (entry.partition("=") for entry in extra)
    return frozenset(named) | {caller for caller, _, target in added if target in targets}
