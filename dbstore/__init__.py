"""dbstore: carries events into the peer's mailbox and onto the real-time bus."""
