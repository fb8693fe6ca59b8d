"""Where a secret is, instead of the secret: what the log, the views and the settings may hold.

    resolve("env:ACME_PROVIDER_KEY")
    resolve("file:/run/secrets/acme")

Nothing here keeps what it reads, and no error repeats it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from streams.errors import SettingError

KINDS = ("env:", "file:", "name:")
SECRET_BYTES_MAX = 4096


def is_reference(text: str) -> bool:
    """Whether a text says where a secret is, rather than being one."""
    return text.startswith(KINDS)


def resolve(reference: str, environ: Mapping[str, str] | None = None) -> str:
    """The secret that a reference leads to; `SettingError` says what is missing."""
    kind, colon, place = reference.partition(":")
    if kind == "env" and colon:
        found = (os.environ if environ is None else environ).get(place, "").strip()
        if not found:
            raise SettingError(
                f"env:{place} is not set, or empty, in the process that runs this: set it there and start it"
                " again, or give file:PATH, which needs no restart"
            )
        return found
    if kind == "file" and colon:
        return _read(place)
    if kind == "name" and colon:
        raise SettingError(f"name:{place}: there is no store of names yet; give env:NAME or file:PATH")
    # Not repeated: what is no reference may be the secret itself.
    raise SettingError("a reference is env:NAME or file:PATH")


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            found = file.read(SECRET_BYTES_MAX + 1)
        text = found.decode().strip()
    except OSError as error:
        raise SettingError(f"file:{path} can't be read: {error.strerror}") from None
    except ValueError:
        raise SettingError(f"file:{path} is not text in UTF-8") from None
    if not text:
        raise SettingError(f"file:{path} is empty")
    if len(found) > SECRET_BYTES_MAX:
        raise SettingError(f"file:{path} has more than {SECRET_BYTES_MAX} bytes")
    return text
