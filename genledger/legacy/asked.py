"""What was asked of `genledger migrate`: light, for every command's help is made of it."""

from pathlib import Path
from typing import Literal

import msgspec

Policy = Literal["refuse", "skip", "add"]


class Asked(msgspec.Struct, frozen=True):
    """What was typed, beside which of the four it is. `overlap`: what becomes of days that both counted."""

    file: Path
    start_date: str | None
    end_date: str | None
    backup_id: str | None
    overlap: Policy
    dry_run: bool
    json: bool
