"""Builds protos/gen: Python messages, stubs and their types, and the descriptor image that `buf` reads.

Run by `make proto` and by the package's build hook (hatch_build.py). The proto of `buf.validate` comes
as a descriptor out of the locked protovalidate package, so that nothing is fetched and nothing is vendored.
"""

import shutil
import sys
from pathlib import Path

import grpc_tools
from google.protobuf import descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb  # its only home in the package

ROOT = Path(__file__).resolve().parent
GEN = ROOT / "gen"
IMAGE = GEN / "messenger" / "descriptors.binpb"
VALIDATE = "buf/validate/validate.proto"
PLUGINS = ("protoc-gen-mypy", "protoc-gen-mypy_grpc")  # beside the interpreter, which need not be on PATH


def validate_descriptors() -> bytes:
    """The FileDescriptorSet of buf/validate/validate.proto with what it imports, serialized."""
    files = descriptor_pb2.FileDescriptorSet()
    for module in (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    files.file.add().ParseFromString(validate_pb.desc().proto.to_binary())
    return files.SerializeToString()


def compile_protos(*arguments: str) -> None:
    """Runs protoc with our import paths; exits with its message where it fails."""
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    status = protoc.main(["protoc", f"-I{ROOT}", f"-I{well_known}", *arguments])
    if status:
        sys.exit(f"protoc failed with status {status}; what it printed above names the file and line")


def build() -> None:
    """Makes protos/gen anew."""
    shutil.rmtree(GEN, ignore_errors=True)
    IMAGE.parent.mkdir(parents=True)
    validate_image = GEN / "validate.binpb"
    validate_image.write_bytes(validate_descriptors())
    ours = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "messenger").rglob("*.proto"))
    compile_protos(
        f"--descriptor_set_in={validate_image}",
        f"--python_out={GEN}",
        f"--grpc_python_out={GEN}",
        *(f"--plugin={Path(sys.executable).with_name(name)}" for name in PLUGINS),
        f"--mypy_out=quiet:{GEN}",
        f"--mypy_grpc_out=quiet:{GEN}",
        "--include_imports",
        "--include_source_info",
        f"--descriptor_set_out={IMAGE}",
        VALIDATE,
        *ours,
    )


if __name__ == "__main__":
    build()
