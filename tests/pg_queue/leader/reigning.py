"""A process that stands for the lead `test`, and stores its term again and again while it leads."""

from __future__ import annotations

import time
from typing import Any

import django


def reign(leadership: Any) -> None:
    from pg_queue.errors import LeadershipLost

    print(f"leads {leadership.term}", flush=True)  # noqa: T201
    try:
        while True:
            with leadership.transaction():
                leadership.session.execute("INSERT INTO done (term) VALUES (?)", [leadership.term])
            time.sleep(0.02)
    except LeadershipLost:
        print(f"lost {leadership.term}", flush=True)  # noqa: T201
        leadership.close()


if __name__ == "__main__":
    django.setup()
    from pg_queue.leader import candidacy

    with candidacy("test") as election:
        while True:
            if leadership := election.stand():
                reign(leadership)
