"""LiteLLM's calls, as events of the ledger: a callback for its proxy or for a program that uses it.

    litellm_settings:
      callbacks: ["streams.integrations.litellm.callback"]

    litellm.callbacks = [streams.integrations.litellm.callback]     # the same in a program

GENLEDGER_URL and GENLEDGER_KEY say where to, GENLEDGER_SPOOL where events wait while nobody answers,
GENLEDGER_ORGANIZATION whose they are; without it each is its team's (GENLEDGER_LITELLM_ORGANIZATION). The
client is made at the first call, so that a proxy with several workers has one in each: each takes the first
spool that is free, PATH, then PATH.2, and so on.

Prompts and answers stay here: they are dropped before anything else is done.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Mapping
from typing import Any

import msgspec
from litellm.integrations.custom_logger import CustomLogger

from streams import settings
from streams.client import Client, SpoolBusy
from streams.errors import BadEvent
from streams.sources import litellm
from streams.sources.interface import How

SPOOLS_MAX = 64
# What can be large, secret or a caller's own: nobody's figure.
DROPPED = frozenset(("messages", "response", "model_parameters", "error_str", "error_information"))

# What may be done here: the source tells what may be done at the service's door.
NO_ORGANIZATION = (
    "is nobody's: set GENLEDGER_ORGANIZATION, or GENLEDGER_LITELLM_ORGANIZATION to what the keys have"
)

_log = logging.getLogger("genledger.client")
_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
# What is no JSON is nobody's figure, either.
_encoder = msgspec.json.Encoder(enc_hook=lambda _: None)


class Callback(CustomLogger):
    """Records each call that LiteLLM says has succeeded. `client` is made from the settings unless given."""

    def __init__(self, client: Client | None = None, how: How | None = None) -> None:
        super().__init__()
        self._making = threading.Lock()
        self._client = client
        self._how = how

    def log_success_event(
        self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """LiteLLM calls this in a thread of its own, after a call that was not awaited."""
        self._record(kwargs.get("standard_logging_object"))

    async def async_log_success_event(
        self, kwargs: Mapping[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """LiteLLM calls this in a task of its own, after a call that was awaited."""
        payload = kwargs.get("standard_logging_object")
        try:
            await asyncio.to_thread(self._record, payload)
        except RuntimeError:
            # The program ends, and takes no new work in threads.
            self._record(payload)

    def close(self) -> int:
        """Send what waits; how many were not sent. The end of the process does it, too."""
        return 0 if self._client is None else self._client.close()

    def _record(self, payload: Mapping[str, Any] | None) -> None:
        """Whatever is wrong, the call that is metered has nothing to do with it."""
        try:
            client, how = self._made()
            for event in events_of(payload or {}, how):
                if isinstance(event, BadEvent):
                    is_nobodys = event.field == "organization"
                    raise BadEvent("organization", NO_ORGANIZATION) if is_nobodys else event
                client.record_json(event)
        except Exception as error:  # noqa: BLE001 -- LiteLLM would print it, with the call
            # A BadEvent names fields and bounds, never what was asked or answered.
            why = str(error) if isinstance(error, BadEvent) else type(error).__name__
            _log.error("a call of LiteLLM was not recorded: %s", why)

    def _made(self) -> tuple[Client, How]:
        with self._making:
            if self._client is None or self._how is None:
                found = settings.load(_environ())
                self._client = self._client or _client_of(found)
                self._how = self._how or How(
                    organization=found.organization, litellm_organization=found.litellm_organization
                )
            return self._client, self._how


def events_of(payload: Mapping[str, Any], how: How) -> list[bytes | BadEvent]:
    """The events of a StandardLoggingPayload. Pure."""
    kept = {name: value for name, value in payload.items() if name not in DROPPED}
    return litellm.events(_fields.decode(_encoder.encode(kept)), how) if kept else []


def _environ() -> dict[str, str]:
    """Our own settings: others, such as LOG_LEVEL, are LiteLLM's here."""
    return {name: value for name, value in os.environ.items() if name.startswith("GENLEDGER_")}


def _client_of(found: settings.Settings) -> Client:
    if not found.spool:
        return Client(found.url, found.api_key)
    for number in range(1, SPOOLS_MAX):
        try:
            return Client(found.url, found.api_key, spool=found.spool + (f".{number}" if number > 1 else ""))
        except SpoolBusy:
            continue
    raise SpoolBusy(f"{found.spool} and {SPOOLS_MAX - 1} more are taken")


callback = Callback()
