"""Other queues, measured beside ours in one run: the same work, the same server, one worker process each.

Who does what
-------------
`systems` lists what is measured. `environments` makes each peer a virtual environment of its own, since they do not go
together in one. A *driver* (`drivers/`) is the one file that knows a peer's API: run as `python driver.py`, it enqueues
and counts as it is told on its standard input; run as `python driver.py worker`, it works. `measuring` tells drivers
what to do, starts and stops the workers, and takes the time; `run` does all that in turns, and prints the table.

What is measured is the same for all: enqueueing, one message to a transaction and a thousand to a call; a backlog being
worked off, by what the queue's own tables say is still to be done, since a start is no completion; and the time from an
enqueue on an idle system to the first line of the task.
"""
