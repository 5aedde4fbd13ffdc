"""Mailboxes on shards: each user's copy of each chat, as a log of messages and a fold of it.

The only package that knows MongoDB. Services hold a `store.MailboxStore`, which is a `mongo.MongoMailbox`, or
a `memory.MemoryMailbox` in their tests. Business rules are left to the services.
"""
