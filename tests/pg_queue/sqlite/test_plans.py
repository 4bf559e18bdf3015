"""What is done again and again reads what it needs through an index, however much is in the file."""

from __future__ import annotations

import re
from contextlib import closing

import pytest

from pg_queue.sql import statements
from tests.processes import SqliteFile

READ_WHOLE = {("messages", "depths"), ("locks", "retain")}
"""On purpose: for a scrape or a person, and of a table that is always small."""
SORTED = {("messages", "slots"), ("messages", "claimed"), ("messages", "running"), ("events", "due")}
"""What a few rows are sorted for: slots, a claim's messages, organizations, topics."""
LISTS = {"queues", "ids", "pairs", "topics", "chosen", "full"}

ALL = [
    (topic, name)
    for topic in ("messages", "outcomes", "keys", "barriers", "events", "switches", "locks", "limits")
    for name in statements(topic, "sqlite")
]


@pytest.mark.parametrize(("topic", "name"), ALL)
def test_no_statement_walks_through_a_table_or_sorts_it(sqlite_file: SqliteFile, topic: str, name: str) -> None:
    statement = statements(topic, "sqlite")[name]
    parameters = {one: "[]" if one in LISTS else 1 for one in re.findall(r":(\w+)", statement)}
    with closing(sqlite_file.connect()) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)]
    walked = [step for step in plan if re.match(r"SCAN (pg_queue_\w+|[mrspb])( |$)", step) and "_claimed" not in step]
    assert not walked or (topic, name) in READ_WHOLE, plan
    assert not any("TEMP B-TREE" in step for step in plan) or (topic, name) in SORTED | READ_WHOLE, plan
