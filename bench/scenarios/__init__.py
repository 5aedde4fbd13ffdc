"""One module a scenario: its drivers, which run in the generator's processes, and its figures."""
