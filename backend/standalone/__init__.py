"""The stand-alone service: everything that `make run` starts, from one command, on a machine with nothing prepared.

`python -m backend.standalone` supervises web, schedulers and worker, and where `DATABASE_URL` is unset an embedded
PostgreSQL and a Celery Beat to compare with. It is for trying Downbeat and for its tests; in production each process
has a supervisor of its own (systemd, a container) and the database is a PostgreSQL that somebody operates and backs up.

| module | duty |
|---|---|
| `provider` | where PostgreSQL's programs come from |
| `account` | which unprivileged account a root-started server runs under |
| `placement` | where programs, data and records lie, readable by that account |
| `initdb` | create a data directory |
| `postgres` | start, stop and reclaim one server |
| `identity` | name a process so that a reused pid is not mistaken for it |
| `ports` | free ports on the loopback address |
| `server` | find a server's processes |
| `database` | the embedded PostgreSQL by hand |
| `preparation` | migrate, demo data, the user that logs in |
| `services` | what runs: the commands |
| `children` | one supervised process: start, prefix its output, restart, stop |
| `leash` | ends a process whose supervisor died |
| `remnants` | what an earlier supervisor left, and the lock |
| `supervisor` | keeps the tree running, stops it in order |
| `run` | one run from start to stop |
| `banner`, `output` | what is printed |
| `credentials` | the password and token that are printed |
| `leadership` | who leads now, as the database says |
"""
