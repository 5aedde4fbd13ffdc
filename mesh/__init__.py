"""The plumbing that every service shares; it knows no service."""

import os

# gRPC reads it when it is first used: its older poller hands a call to half as many threads (docs/adr/0015).
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
