"""A ledger worker that stands still where a test wants it: `worker_with_seams.py`, as a role.

zombie = Zombie(installation, "transaction-open")
zombie.start()
wait_until(lambda: zombie.stands_still, 10, "standing still")
zombie.resume()
"""

import sys
from pathlib import Path

from tests.kafka import worker_with_seams
from tests.kafka.installation import Installation, Role


class Zombie(Role):
    """`stop_at` names a point of worker_with_seams.py; `unfenced`: no later owner can fence it."""

    def __init__(
        self, installation: Installation, stop_at: str, *, unfenced: bool = False, **environ: str
    ) -> None:
        like = installation.role("ledger")
        seams = {worker_with_seams.STOP_AT: stop_at, worker_with_seams.UNFENCED: "1" if unfenced else ""}
        super().__init__("ledger", like.data, like.output, **{**installation.environ, **seams, **environ})

    def command(self) -> list[str]:
        return [sys.executable, "-P", worker_with_seams.__file__, *super().command()[1:]]

    @property
    def stands_still(self) -> bool:
        """Has it been stopped by SIGSTOP?"""
        return Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"
