"""The local stack: all servers and services of the messenger on this machine, under supervisord."""

from mesh.stack.errors import StackError
from mesh.stack.plan import Stage
from mesh.stack.settings import StackSettings
from mesh.stack.stack import Stack, Status

__all__ = ["Stack", "StackError", "StackSettings", "Stage", "Status"]
