"""Antispam's own checkers. Each is a rule: pure, synchronous, with the time handed in."""
