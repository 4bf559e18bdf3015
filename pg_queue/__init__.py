"""The queue: messages in PostgreSQL, claimed by workers under a lease, settled once. Use `pg_queue.api`."""
