"""Antispam: judges messages between the queues, under a budget, and never stops them for long."""
