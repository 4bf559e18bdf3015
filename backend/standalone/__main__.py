"""`python -m backend.standalone`: what `make run` runs, in the mode that `DOWNBEAT_MODE` names.

Exit codes: 0 after a stop that was asked for; 1 when it could not start, with the reason on standard error.
"""

import os
import sys

from backend.mode import Mode, mode_of


def main() -> int:
    """Run; the exit code."""
    try:
        mode = mode_of(os.environ)
    except ValueError as error:
        print(f"Downbeat cannot run: {error}", file=sys.stderr)  # noqa: T201
        return 1
    # Only the one that is asked for: psycopg and the supervisor are not worth a desktop's start.
    if mode is Mode.DESKTOP:
        from backend.desktop.run import run
    else:
        from backend.standalone.run import run
    return run()


if __name__ == "__main__":
    raise SystemExit(main())
