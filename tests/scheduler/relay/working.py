"""A worker of the store `far` that does nothing: it claims what is due, says that it succeeded, and prints the ids."""

from __future__ import annotations

import json
import sys
from datetime import timedelta

import django

if __name__ == "__main__":
    django.setup()
    from pg_queue.api import store
    from pg_queue.domain import Settlement, Success

    far, done = store("far"), []
    while claims := far.claim(queues=["default"], limit=500, lease=timedelta(minutes=5), worker="test"):
        far.settle(
            [
                Settlement(message_id=claim.message.id, token=claim.token, outcome=Success(value=claim.message.args))
                for claim in claims
            ]
        )
        done += [str(claim.message.id) for claim in claims]
    sys.stdout.write(f"{json.dumps(done)}\n")
