"""`DOWNBEAT_MODE=desktop`: web, scheduler, reaper and worker in one process, on one file of SQLite. No server at all.

Who does what
-------------
The *main thread* serves the web (waitress, whose own threads answer). The *scheduler* leads and ticks in a thread, as
`run_scheduler` does in a process; the *reaper* makes its rounds in another; the *worker* claims in a third and runs the
tasks in threads of its own. They share nothing but the file: each thread has its own connection, writes take turns, and
everything that counts is in a transaction of the same file. So the process may be killed at any moment: what was
committed is there at the next start, what was not never happened, and a task that was running is run again when its
lease has run out, some seconds later (`LEASE_SECONDS` is shorter here).

One process has one data directory: a lock on it refuses a second.

Order of the start: the lock, the tables (made at the first start, and where the program is newer than the file), the
demo's user, then scheduler and worker, each validated before it begins, then the web port. Of the stop: no new request,
no new claim, what runs has its drain, the lead is handed back.
"""
