"""A function in a process of its own, with nothing on its heap but what it makes itself.

    per_s = alone(decode_loop, bootstrap, topic, 210_000)

Python's cyclic collector is off in it: a loop written by hand is given every advantage that it could have.
"""

import gc
import logging
import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar

from benchmarks import BenchmarkFailed

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT_S = 300.0
END_S = 5.0


def alone(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Run it in a fresh process; what it returns. It does not outlive this call."""
    context = multiprocessing.get_context("spawn")
    results, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(theirs, function, arguments, named), daemon=True)
    process.start()
    theirs.close()
    try:
        if not results.poll(TIMEOUT_S):
            raise BenchmarkFailed(f"{function.__name__} is not through after {TIMEOUT_S:g} s")
        found: T | BenchmarkFailed = results.recv()
        process.join(END_S)
    except EOFError:
        raise BenchmarkFailed(f"{function.__name__} ended without a result: see above") from None
    finally:
        if process.is_alive():
            process.kill()
        process.join()
    if isinstance(found, BenchmarkFailed):
        raise found
    return found


def _run(
    results: Connection, function: Callable[..., T], arguments: tuple[object, ...], named: dict[str, object]
) -> None:
    # Ctrl-C is for the process that started us: it ends us.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it can't do it tries again
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        results.send(function(*arguments, **named))
    except BenchmarkFailed as error:
        results.send(error)
