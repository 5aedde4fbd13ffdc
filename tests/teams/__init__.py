"""What internal teams do, with services of theirs."""
