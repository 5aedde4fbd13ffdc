"""Unary calls of two processes on one long-lived gRPC stream, whose frames carry as many as are waiting.

A unary call of Python's gRPC costs some 400 µs of processor time whatever it carries (`python -m bench hop`).
Here calls that come while a frame is being written go with the next one, without any timer: a lone call waits
for nothing, and under load frames fill by themselves. Each call keeps its own deadline, cancellation, status,
metadata and place: a slow one holds nobody up.

`client.SharedChannel` stands where a `grpc.aio.Channel` would, and `server.Sharing` hands calls to the same
handlers that serve plain calls. A server that does not know the stream is called plainly.
"""
