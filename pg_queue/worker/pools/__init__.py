"""What runs tasks, by the names that `run_worker --pool` takes."""

from collections.abc import Mapping

from pg_queue.worker.pool import PoolFactory
from pg_queue.worker.pools.event_loop import AsyncioPool
from pg_queue.worker.pools.process import ProcessPool
from pg_queue.worker.pools.thread import ThreadPool

POOLS: Mapping[str, PoolFactory] = {"process": ProcessPool, "thread": ThreadPool, "asyncio": AsyncioPool}
