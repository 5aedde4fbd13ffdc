"""Logs, metrics and traces of a second set of services."""
