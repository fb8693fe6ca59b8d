"""Throughput: NDJSON of 1,000 events a request, four in flight, from another process than the service's.

    throughput(base, warm_up, traffic)      # {"accepted_per_s": ..., "road_per_s": ..., ...}

Accepted is durable: on the log, fsynced. The road ends when summaries and processed_generations have all.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec

from benchmarks import BenchmarkFailed, views
from benchmarks.bench import Figures
from benchmarks.service import Service
from benchmarks.traffic import Traffic
from benchmarks.wire import NDJSON, Pool, request_of
from streams import clock

BATCH = 1000
IN_FLIGHT = 4
TIMEOUT_S = 120.0
ACCEPTED = 202
BUSY = (429, 503)
# What the service says is at least a second; it is less busy again sooner.
RETRY_S = 0.05


class _Answer(msgspec.Struct):
    accepted: int


def throughput(base: Path, warm_up: Traffic, traffic: Traffic) -> Figures:
    """One fresh service: warm it up, then measure."""
    with Service(base / "data") as service:
        try:
            figures = asyncio.run(asyncio.wait_for(_run(service, warm_up, traffic), TIMEOUT_S))
        except TimeoutError:
            raise BenchmarkFailed(f"it is not through after {TIMEOUT_S:g} s") from None
    views.check(service.data / "genledger.db", warm_up.totals() + traffic.totals())
    return figures


async def _run(service: Service, warm_up: Traffic, traffic: Traffic) -> Figures:
    warmed, count = len(warm_up.lines), len(traffic.lines)
    await _post(service, warm_up)
    await views.wait_applied(service, warmed, TIMEOUT_S)
    cpu_s = service.cpu_s()
    started_s = clock.monotonic_s()
    busy = await _post(service, traffic)
    accepted_s = clock.monotonic_s() - started_s
    await views.wait_applied(service, warmed + count, TIMEOUT_S)
    road_s = clock.monotonic_s() - started_s
    figures: Figures = {
        "generations": count,
        "accepted_per_s": count / accepted_s,
        "road_per_s": count / road_s,
        "busy_answers": busy,
    }
    used_s, memory_bytes = service.cpu_s(), service.memory_bytes()
    if cpu_s is not None and used_s is not None and memory_bytes is not None:
        figures["cpu_s_per_1000"] = (used_s - cpu_s) / (count / 1000)
        figures["memory_max_mib"] = memory_bytes / 2**20
    return figures


async def _post(service: Service, traffic: Traffic) -> int:
    """Post it all; how often the service was too busy to take a batch."""
    pool = await Pool.open(service.port, IN_FLIGHT)
    requests = iter([request_of(service.port, body, NDJSON) for body in traffic.bodies(BATCH)])
    answers: list[int] = []
    try:
        busy = await asyncio.gather(*(_sender(pool, requests, answers) for _ in range(IN_FLIGHT)))
    finally:
        pool.close()
    if sum(answers) != len(traffic.lines):
        raise BenchmarkFailed(f"{len(traffic.lines)} events were sent, {sum(answers)} accepted")
    return sum(busy)


async def _sender(pool: Pool, requests: Iterator[bytes], answers: list[int]) -> int:
    busy = 0
    for request in requests:
        status, body = await pool.ask(request)
        while status in BUSY:
            busy += 1
            await asyncio.sleep(RETRY_S)
            status, body = await pool.ask(request)
        if status != ACCEPTED:
            raise BenchmarkFailed(
                f"a batch was answered with {status}: {body[:300].decode(errors='replace')}"
            )
        answers.append(msgspec.json.decode(body, type=_Answer).accepted)
    return busy
