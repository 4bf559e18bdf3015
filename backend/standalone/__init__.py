"""The stand-alone service: everything that `make run` starts, from one command, on a machine with nothing prepared.

`python -m backend.standalone` supervises web, schedulers and worker, and an embedded PostgreSQL where `DATABASE_URL` is
unset. It is for trying Downbeat and for its tests; in production each process has a supervisor of its own (systemd, a
container) and the database is a PostgreSQL that somebody operates and backs up.

| module | duty |
|---|---|
| `provider` | where PostgreSQL's programs come from |
| `account` | which unprivileged account a root-started server runs under |
| `placement` | where programs, data and records lie, readable by that account |
| `initdb` | create a data directory |
| `postgres` | start, stop and reclaim one server |
| `identity` | name a process so that a reused pid is not mistaken for it |
| `children` | one supervised process: start, prefix its output, restart, stop |
| `supervisor` | the whole tree |
| `credentials` | the password and token that are printed |
| `leadership` | who leads now, as the database says |
"""
