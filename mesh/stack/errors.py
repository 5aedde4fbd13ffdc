"""What can go wrong with the local stack. Every text names the cure; the command line prints it as it is."""


class StackError(Exception):
    """The local stack cannot do what it was asked to do."""
