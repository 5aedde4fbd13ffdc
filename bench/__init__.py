"""What the messenger costs and reaches on this machine: `python -m bench SCENARIO`.

A scenario brings up a stack of its own, loads it from processes of their own, and reads the processor time of
every server's process from the kernel.
"""
