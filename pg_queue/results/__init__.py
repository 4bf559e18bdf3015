"""Results of messages, kept where `PG_QUEUE["RESULTS"]` says: a Django app for any database, and a store in Redis.

The queue's own row of a message says that it has ended, and how: its state, its error, who waits for it. Its value is
kept there too, unless `PG_QUEUE["RESULTS"]` names another place. Then

- the worker puts the outcome into that store *before* it settles the message: a settled message never lacks its result,
  and a worker that is killed in between leaves the message to be executed again, which puts its result again;
- an outcome is known by its message and by the instant at which its execution was claimed, on the queue's clock. The
  first outcome of an execution stands; that of a later execution takes its place; that of an earlier one, which comes
  late from a worker that had lost its claim, changes nothing;
- whoever asks gets the queue's word on whether the message has ended, and the store's word on its value.
"""
