"""`python -m tests.proof`: see `tests.proof`. Exits with 1 where anything was violated, or too little happened."""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
from datetime import timedelta
from types import FrameType

import django

from tests.processes import ROOT

PHASES = "stock", "gate"


def main() -> int:
    """Run one phase on the database that is given, or each on one of its own."""
    options = _parser().parse_args()
    if options.database:
        return _run(options)
    phases = [options.phase] if options.phase else PHASES
    return max([_run_apart(phase, options) for phase in phases])


def _run(options: argparse.Namespace) -> int:
    signal.signal(signal.SIGTERM, _leave)
    os.environ.update(DATABASE_URL=options.database, DJANGO_SETTINGS_MODULE="tests.proof.settings")
    os.environ.setdefault("DOWNBEAT_LOG_LEVEL", "ERROR")
    django.setup()
    from tests.proof import judge, performance, report

    plan = performance.Plan(
        phase=options.phase,
        duration=timedelta(minutes=options.minutes),
        fast=options.fast,
        slower=options.slower,
        seed=options.seed,
    )
    made = performance.perform(plan, options.database)
    judgement = judge.judge(made.evidence)
    print(*report.lines(made, judgement), sep="\n", flush=True)  # noqa: T201
    fired = sum(judgement.counts[f"occurrences fired by {firer}"] for firer in ("beat", "pg"))
    if fired < options.at_least:
        print(f"  TOO LITTLE: {fired:,} occurrences, expected {options.at_least:,}")  # noqa: T201
    return int(fired < options.at_least or not judgement.is_clean)


def _leave(number: int, frame: FrameType | None) -> None:
    """By an exception, so that what was started is ended."""
    raise SystemExit(128 + number)


def _run_apart(phase: str, options: argparse.Namespace) -> int:
    """In a process of its own, because Django knows one database for the whole of its life."""
    from benchmarks.databases import scratch_database

    with scratch_database() as database:
        arguments = ["--database", database.url, "--phase", phase, "--seed", str(options.seed)]
        for name in ("minutes", "fast", "slower", "at_least"):
            arguments += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
        child = subprocess.Popen([sys.executable, "-m", "tests.proof", *arguments], cwd=ROOT)
        try:
            return child.wait()
        finally:
            child.terminate()  # where this was interrupted; it ends what it has started
            child.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.proof", description="Prove the cutover.")
    parser.add_argument("--phase", choices=PHASES, help="only this one")
    parser.add_argument("--minutes", type=float, default=6.0, metavar="M", help="of each phase (default: %(default)g)")
    parser.add_argument("--fast", type=int, default=50, metavar="N", help="schedules of one or two seconds")
    parser.add_argument("--slower", type=int, default=300, metavar="N", help="schedules of ten seconds to two minutes")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), metavar="S", help="what chance does")
    parser.add_argument(
        "--at-least", type=int, default=5_000, metavar="N", help="occurrences that each phase is to show"
    )
    parser.add_argument("--database", metavar="URL", help="an empty, migrated database of this run's own")
    return parser


if __name__ == "__main__":
    sys.exit(main())
