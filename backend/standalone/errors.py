"""What can go wrong before anything runs. Every message says what to do."""


class StandaloneError(Exception):
    """The stand-alone service cannot go on; the message is for the person at the terminal."""


class PostgresUnavailable(StandaloneError):
    """The embedded PostgreSQL has no programs, no account to run under, or nowhere to keep its data."""


class PostgresStartFailed(StandaloneError):
    """`initdb` or `postgres` exited or did not answer; the message carries the end of its log."""


class DatabaseUnusable(StandaloneError):
    """`DATABASE_URL` names no PostgreSQL, or one that does not let us in."""


class AlreadyRunning(StandaloneError):
    """Another supervisor runs on this data directory."""


class PortTaken(StandaloneError):
    """Something else listens on the port that was asked for."""
