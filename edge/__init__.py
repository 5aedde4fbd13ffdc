"""The edge: clients' WebSockets and HTTP in, gRPC out."""
