"""dbapi: the wrapper over the sharded mailboxes."""
