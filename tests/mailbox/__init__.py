"""The mailbox store, in memory and on real mongods."""
