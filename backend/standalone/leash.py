"""Runs a program that is told to stop when its supervisor dies: `leash.py <supervisor's pid> <program> <argument>...`.

A program of its own and not a `preexec_fn`, because the supervisor has threads, after whose fork Python code may hang.
On Linux by the parent-death signal, which survives exec (prctl(2)); elsewhere the program is only run, and the next
start of the supervisor reclaims it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for SIGTERM at the supervisor's death, then become the program."""
    supervisor = int(sys.argv[1])
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != supervisor:  # it died before the request was heard
        raise SystemExit(1)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
