"""Parts that are away or hang."""
