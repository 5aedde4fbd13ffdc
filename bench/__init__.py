"""Measurements; each prints its own command's figures."""
