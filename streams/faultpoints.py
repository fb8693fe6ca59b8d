"""Points at which a test may kill this process, as a power cut would. In production they do nothing.

    KILL_AT_FOR_TESTS=transaction-committed:3 genledger serve      # dies the third time it gets there

A name that is not in the table is refused at start, so that a test can't wait for a point that isn't there.

| name                   | where it stands                                                                  |
| ---------------------- | -------------------------------------------------------------------------------- |
| event-received         | the door has checked a request's events; the log does not have them              |
| event-logged           | the log has a request's events; the answer is not sent                           |
| republished            | winners are published again; facts, changelog and offset are not yet written     |
| transaction-open       | facts and changelog are inserted; their transaction is not committed             |
| transaction-committed  | facts, changelog and offset are durable; the local store has not been written     |
| store-written          | the local store is written; the batch is not yet acknowledged                     |
| summaries-transaction  | inside the summaries' transaction: rows are written, the commit is not           |
| processed-transaction  | the same, of processed_generations                                               |
| points-written         | InfluxDB has a batch's points; the position has not been moved on                |
| points-positioned      | InfluxDB has the points' position too                                            |
| recovery               | the ledger's table is being read back from its changelog                         |
| rebuild                | a part of a rebuild is in the file beside, and committed there                    |
| swap-copying           | rebuilt rows are copied beside the live ones, piece by piece                      |
| swap-transaction       | inside the transaction of the swap: all is renamed, nothing is committed          |
| swapped                | the rebuilt rows are the live ones; the file they came from is still there        |
| snapshot-published     | some of a snapshot's rows are on the log; its manifest is not                    |
| snapshot-checked       | all of them are, and are what they should be; the manifest is not                |
| snapshot-told          | the manifest is on the log; nothing of `usage` has been deleted                  |
| trimming               | a piece of the head of a partition has been deleted; more is to go               |
| backup-copied          | the files are copied and checked; the archive is not yet written                 |
| backup-written         | the archive is written; it does not yet have its name                            |
| restore-unpacked       | the files are unpacked and checked; nothing has been touched                      |
| restore-marked         | the log's marks are those of what is put back; its files are still the old ones   |
| restore-emptied        | the old files are aside; none of the new ones is in place                         |
| restore-placed         | all is in place but the log's first file                                         |
| compaction-transaction | superseded records are deleted; the transaction is not committed                  |
| compaction-piece       | some of the superseded records are gone for good, others are not                  |
| compaction-shrinking   | some free pages of a file have been given back                                    |
| migration-planned      | a migration's entries and its backup are there; nothing is published              |
| migration-sent         | the log has a batch of a migration's entries; its manifest does not say so        |
| sweep-begun            | a run of the retention job stands in the table; nothing of it is done             |
| sweep-walked           | a sweep has looked at some ids; what is to go of them is not on the log           |
| sweep-appended         | the log has a batch of a sweep's tombstones; they are not decided                 |
| sweep-decided          | a batch of tombstones is decided; the sweep goes on                               |
| sweep-ending           | all of a sweep's tombstones are decided; its end is not on the log                |
| sweep-ended            | the log has a sweep's end; it is not decided                                      |
"""

import os
import signal

ENVIRONMENT = "KILL_AT_FOR_TESTS"
NAMES = (
    "event-received",
    "event-logged",
    "republished",
    "transaction-open",
    "transaction-committed",
    "store-written",
    "summaries-transaction",
    "processed-transaction",
    "points-written",
    "points-positioned",
    "recovery",
    "rebuild",
    "swap-copying",
    "swap-transaction",
    "swapped",
    "snapshot-published",
    "snapshot-checked",
    "snapshot-told",
    "trimming",
    "backup-copied",
    "backup-written",
    "restore-unpacked",
    "restore-marked",
    "restore-emptied",
    "restore-placed",
    "compaction-transaction",
    "compaction-piece",
    "compaction-shrinking",
    "migration-planned",
    "migration-sent",
    "sweep-begun",
    "sweep-walked",
    "sweep-appended",
    "sweep-decided",
    "sweep-ending",
    "sweep-ended",
)


class _Countdown:
    """How often the named point may still be passed."""

    def __init__(self, text: str) -> None:
        self.name, _, count = text.partition(":")
        self.left = int(count or 1)
        if self.name not in NAMES:
            raise ValueError(f"{ENVIRONMENT}: {self.name!r} is no fault point; there are {', '.join(NAMES)}")


_countdown = _Countdown(os.environ[ENVIRONMENT]) if os.environ.get(ENVIRONMENT) else None


def reached(name: str) -> None:
    """Die here, at once and without any clean-up, if a test has asked for it."""
    if _countdown is None or name != _countdown.name:
        return
    _countdown.left -= 1
    if _countdown.left <= 0:
        os.write(2, f"killed at {name}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
