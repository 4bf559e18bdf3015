"""The worker: claims messages, has their tasks run, settles what became of them.

Who does what
-------------
`loop` claims and settles, on behalf of a pool (`pool`), which runs the tasks: `pools` has processes, threads and an
event loop. With processes:

The *parent* has the database's side: it claims in batches, hands messages to children, settles outcomes in batches and
renews leases. The *children* run tasks, one at a time each, and know nothing of claims. So a task that exits, crashes
or hangs costs one child and one attempt, never a claim of another message.

A message in a worker: *claimed* (in the parent's books) → *assigned* (sent to a child; waits there behind the one that
runs) → *running* (the oldest assigned to its child) → *reported* → settled. Children report in the order of assignment,
so the oldest unreported one is the one that runs. Messages are assigned ahead only while tasks take milliseconds, and
called back when one turns out to be long.

What happens when

- a task raises, asks for a retry or gives up: the child reports it, with a bounded traceback;
- a task returns what JSON cannot hold: dead at once, `task.result_not_json` or `task.result_too_large`;
- a child ends (exit, signal, out of memory): the one that ran is retried as `worker.exited`; those behind it never
  began and are given back without counting an attempt; another child takes its place;
- a task runs past its soft time limit: its child raises `SoftTimeLimitExceeded` in it;
- a task runs past its time limit: its child's process group is killed, `worker.time_limit`;
- a child has run as many tasks as it may, or has grown too large: it is given nothing more, what has not begun is given
  back, and another child takes its place;
- SIGHUP: a new process loads the code; once a child has started from it, the others are replaced one by one;
- the store of results goes away (where they are kept outside of the queue): what was returned is held while leases are
  renewed, and nothing more is claimed; after `GIVE_UP_SECONDS` the message is retried as `results.unavailable`;
- a lease is lost: the execution is killed and nothing is settled, since somebody else has the message now;
- the database goes away: outcomes are kept and settled when it is back; what was taken back meanwhile answers `LOST`;
- SIGTERM: nothing more is claimed, what has not begun is given back, what runs has `drain_seconds` to finish and is
  then killed and retried as `worker.stopped`. A second signal: at once;
- the parent is killed: children see the end of their channel, kill their process groups, and the leases run out.
"""
