"""`python -m backend.standalone`: what `make run` runs.

Exit codes: 0 after a stop that was asked for; 1 when it could not start, with the reason on standard error.
"""

from backend.standalone.run import run

if __name__ == "__main__":
    raise SystemExit(run())
