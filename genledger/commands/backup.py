"""`genledger backup`: a consistent copy of the ledger, while the service runs or when it does not."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from genledger.options import Data, Json, WrongUse, load
from genledger.output import print_json, say, visible

app = App(
    name="backup",
    help_prologue="""Examples:
  genledger backup ledger.tar.gz
  genledger backup /mnt/backups/ledger-2026-11-21.tar
  genledger backup ledger.tar.gz --force --json
""",
)


@app.default
def backup(
    file: Path,
    /,
    *,
    force: Annotated[
        bool, Parameter(negative="", show_default=False, help="Replace the file if it is there.")
    ] = False,
    data: Data = None,
    json: Json = False,
) -> int:
    """Copy the log and the views into one file, also while the service runs.

    The copy is of one moment, and is checked before the file gets its name:
    interrupted, it leaves none. Twice the ledger's size must be free where the
    file is. On a cluster only the views are copied: the log is Kafka's.

    Parameters
    ----------
    file
        The file to write: .tar, or .tar.gz or .tgz to pack it.
    """
    from genledger import archive, copies

    if not file.name.endswith(archive.SUFFIXES):
        raise WrongUse(f"{visible(file)}: a backup's name ends in {', '.join(archive.SUFFIXES)}")
    if not file.parent.is_dir():
        raise WrongUse(f"{visible(file.parent)} is not a folder")
    if file.is_dir() or (file.exists() and not force):
        raise WrongUse(f"{visible(file)} is there already: give another name, or --force to replace it")
    manifest = copies.back_up(load(data=data), file)
    if json:
        print_json(copies.as_json(manifest))
    size_bytes = file.stat().st_size
    say(f"{visible(file)}: {', '.join(manifest.names())} as of {manifest.time}, {size_bytes} bytes")
    return 0
