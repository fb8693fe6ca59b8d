"""A process that appends until it is killed, and writes down what was acknowledged.

    python -m tests.log.appender <directory> <file for the answers> <number to start with>

Each answer is a line: `ack <number> <offset>`, `commit <number>`, `full <number>`, `error <number>`. The
intake gets one record a number, and the ledger one fact with the number as source offset. After an error it
tries three times more, then ends as a service would: non-zero, when `log.failed` says so.
"""

import asyncio
import os
import sys

from streams.errors import LogError, LogFull
from streams.log.interface import Message, TopicSpec, Writer
from streams.log.sqlite import Bounds, SqliteLog, open_log

TOPICS = (
    TopicSpec("events", 1, compacted=True, store="intake"),
    TopicSpec("facts", 1, store="ledger"),
)
BOUNDS = Bounds(checkpoint_bytes=400_000)
FAILED = 70


def value_of(number: int) -> bytes:
    return b"value-%d-" % number + bytes(300)


class Answers:
    """Straight to the file, so that a kill takes nothing back."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def say(self, line: str) -> None:
        os.write(self._fd, f"{line}\n".encode())


async def append(log: SqliteLog, answers: Answers, number: int) -> None:
    try:
        (offset,) = await log.append([Message("events", 0, b"%d" % number, value_of(number))])
        answers.say(f"ack {number} {offset}")
    except LogFull as error:
        answers.say(f"full {number}" if error.disk else f"waiting {number}")
        await asyncio.sleep(0.002)
    except LogError:
        answers.say(f"error {number}")


async def commit(writer: Writer, answers: Answers, number: int) -> None:
    await writer.commit([Message("facts", 0, b"%d" % number, value_of(number))], number)
    answers.say(f"commit {number}")


async def main(directory: str, path: str, first: int) -> int:
    answers = Answers(path)
    log = await open_log(f"sqlite:///{directory}", TOPICS, bounds=BOUNDS)
    writer = await log.writer("g", "events", 0)
    number = first
    while not log.failed.done():
        await asyncio.gather(
            append(log, answers, number), append(log, answers, number + 1), commit(writer, answers, number)
        )
        number += 2
    for late in range(number, number + 3):
        await asyncio.sleep(0.05)
        await append(log, answers, late)
    return FAILED


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
