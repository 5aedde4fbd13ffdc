"""The tests.

A folder with an `__init__` ends what its fixtures have started (`scope="package"`) before the next begins.
"""
