"""What the benchmarks rest on. No figure is tested: machines differ."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import fire, queue, stores
from benchmarks.failover import Proxy
from benchmarks.peers import run as peers
from benchmarks.peers.measuring import DRIVERS, Driver, median_of
from benchmarks.services import percentile

SERVER = {"server_version": "18.4", "fsync": "on"}
FIRE: dict[str, Any] = {
    "server": SERVER,
    "bursts": {10_000: 0.5},
    "beat": {10_000: {"per_second": 10.0}},
    "bare": {100_000: {"ours": [6.0], "bare_narrow": [3.0], "bare_own": [5.0], "ours_at_1000": [0.06]}},
    "lag": 0.5,
    "enqueued": [1.0, 2.0, 30.0],
    "begun": [3.0] * 200,
    "change": [1.5],
    "idle": {"leader": {"cpu_percent": 0.2, "rss_mb": 70, "uss_mb": 50}},
    "start": {"once_up": 0.1, "from_start": 1.2},
    "failover": {
        how: [{"seconds": 0.1, "lost": 0, "twice": 0}, {"seconds": 0.3, "lost": 1, "twice": 0}]
        for how in ("killed", "frozen", "partitioned")
    },
}
QUEUE: dict[str, Any] = {
    "server": SERVER,
    "one": {"ours": [80.0], "bare": [100.0], "bare_prepared": [110.0]},
    "batch": {"ours": [50_000.0], "bare": [100_000.0]},
    "drain": {1: {"value": {"per_second": 7_000.0}, "nothing": {"per_second": 12_000.0}}},
    "idle": [1.0, 2.0],
}

DRIVER = """
from common import note, serve

class Client:
    def set_up(self): self.count = 0
    def enqueue(self, sent_at): self.count += 1; note(sent_at)
    def enqueue_many(self, sent_at, count): self.count += count
    def pending(self): return self.count
    def clear(self): self.count = 0

serve(Client, lambda: None)
"""


@pytest.mark.parametrize(
    ("what", "measured", "target"),
    [
        ("  ours by Beat's", "2,000 times", "1,000 times"),
        ("  bare UPDATE … RETURNING → INSERT, narrow tables", "33,333/s; ours 50% of it", "50%"),
        ("  cost per fire, 100,000 by 1,000", "1.00", "within 1.5"),
        ("10,000 due: last one enqueued after", "0.50 s", "1 s"),
        ("one due, idle system: enqueued after", "p50 2.0, p99 30.0 ms of 3", "p99 10 ms"),
        ("one due, idle system: begun by a waiting worker after", "p50 3.0, p99 3.0 ms of 200", "p99 20 ms"),
        ("idle leader, 100,000 schedules", "0.20 % of a core, RSS 70 MB (own 50)", "0.5 %, 80 MB"),
        ("leader killed: next fire after", "0.20 s, slowest 0.30 s of 2; lost 1, twice 0", "1 s, 0, 0"),
        ("leader partitioned: next fire after", "0.20 s, slowest 0.30 s of 2; lost 1, twice 0", "15 s, 0, 0"),
    ],
)
def test_the_table_of_the_scheduler_has_each_figure_beside_its_target(what: str, measured: str, target: str) -> None:
    assert (what, measured, target) in fire.table(FIRE)


@pytest.mark.parametrize(
    ("what", "measured", "target"),
    [
        ("enqueue one, a transaction each", "80/s, 80% of the bare INSERT", "80%"),
        ("enqueue a batch, 1,000 a call", "50,000/s, 50% of the bare INSERT", "60,000/s"),
        ("drain no-op messages, results kept, 1 child", "7,000/s finished", "8,000/s"),
        ("drain no-op messages, at least once, 1 child", "12,000/s finished", "15,000/s"),
    ],
)
def test_the_table_of_the_queue_has_each_figure_beside_its_target(what: str, measured: str, target: str) -> None:
    assert (what, measured, target) in queue.table(QUEUE)


def test_a_percentile_of_many_is_not_their_maximum() -> None:
    assert percentile([float(number) for number in range(250)], 99) < 249
    assert percentile([5.0], 99) == 5.0


def test_a_proxy_passes_everything_on_until_it_is_cut_and_then_nothing_not_even_the_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as database:
        proxy = Proxy(f"postgres://me:secret@127.0.0.1:{database.getsockname()[1]}/x")
        try:
            assert proxy.url.startswith("postgres://me:secret@127.0.0.1:")
            port = int(proxy.url.rpartition(":")[2].removesuffix("/x"))
            with socket.create_connection(("127.0.0.1", port), timeout=10) as client, database.accept()[0] as server:
                client.sendall(b"ask")
                assert server.recv(10) == b"ask"
                server.sendall(b"answer")
                assert client.recv(10) == b"answer"
                proxy.cut()
                server.sendall(b"unheard")
                server.shutdown(socket.SHUT_WR)
                client.settimeout(0.5)
                with pytest.raises(TimeoutError):
                    client.recv(10)
        finally:
            proxy.close()


def test_the_table_of_the_stores_has_each_ones_median_in_a_column_of_its_own() -> None:
    rounds = [dict.fromkeys(stores.WORDS, figure) for figure in (1.0, 3000.0, 9000.0)]
    heading, *rows = stores.table({"postgres": rounds, "redis": rounds[:1]})
    assert heading == ("what", "postgres", "redis")
    assert ("settle 100 to a call", "3,000/s", "1/s") in rows
    assert ("wake, p99", "3000.0 ms", "1.0 ms") in rows
    assert len({len(line) for line in stores.aligned([heading, *rows])}) == 1


def test_every_store_has_a_place_to_be_measured_in() -> None:
    assert set(stores.PLACES) == set(stores.STORES)


def test_the_table_of_peers_has_a_line_for_each_and_says_what_could_not_be_measured() -> None:
    round_ = {"one_per_second": 900.0, "batch_per_second": 20_000.0, "drain_per_second": 5_000.0, "idle_ms": [2.0, 9.0]}
    slow = {**round_, "drain_per_second": None, "idle_ms": []}
    figures = {
        "systems": {"ours": median_of([round_, {**round_, "drain_per_second": 7_000.0}]), "slow": median_of([slow])},
        "errors": {"gone": "OSError: no such thing"},
    }
    assert peers.lines(figures)[1:] == [
        ("ours", "900/s", "20,000/s", "6,000/s", "9.0 / 9.0 ms"),
        ("slow", "900/s", "20,000/s", "-", "-"),
        ("gone", "not measured: OSError: no such thing"),
    ]


def test_a_driver_carries_out_orders_and_notes_when_its_task_begins(tmp_path: Path) -> None:
    driver = tmp_path / "driver.py"
    driver.write_text(DRIVER)
    environment = {**os.environ, "PYTHONPATH": str(DRIVERS), "BENCH_NOTES": str(tmp_path / "notes")}
    one = Driver([sys.executable, str(driver)], environment)
    try:
        assert one.ask("set_up") is None
        assert one.ask("one", 3) >= 0
        assert one.ask("batch", 2000) >= 0
        assert one.ask("pending") == 2003
        one.ask("send")
    finally:
        one.close()
    sent, begun = map(float, (tmp_path / "notes").read_text().split())
    assert sent <= begun
    with pytest.raises(RuntimeError, match="it ended at"):
        Driver([sys.executable, "-c", ""], environment).ask("pending")
