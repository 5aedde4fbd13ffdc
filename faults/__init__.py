"""Breaks everything under load, and decides from outside whether the promises of docs/guarantees.md held.

python -m faults [--seed N] [--minutes M] [--only KIND …]      or: make faults SEED= MINUTES= ONLY=

plan       what is broken when: a pure function of the seed
proxy      the wire between all parts, which cuts, delays and half kills it
breaking   does a plan to a real stack
client     a device that keeps the client contract
load       people on devices
history    every call with its outcome, every received event: a file
shards     what the databases hold in the end
checker    reads both and decides; shares no code with the services
report     the numbers, a table, a plot
run        all of it in order
"""
