"""The seeds' questions about processed generations, asked of the running service.

    from projections.processed import is_duplicate, is_generation_processed

    if not is_generation_processed("gen-1", "acme"):
        ...                                             # nobody has told of it yet
    is_duplicate("gen-1", "anthropic/claude-sonnet-4", "0.0123")

    done = cleanup_old_processed_generations(90)        # forgets ids, never totals; an administrator's key
    done["success"], done["records_deleted"], done["organization_breakdown"]

GENLEDGER_URL says where the service is (http://127.0.0.1:8787), GENLEDGER_KEY (or GENLEDGER_KEY_FILE) has the
key. Marking a generation as processed is the ledger's: publish it, and a second time changes nothing.
"""

import os
import time
from contextlib import closing
from decimal import Decimal, InvalidOperation
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from streams import settings
from streams.client.http import Gateway
from streams.client.verdict import Unanswered
from streams.errors import BadEvent, GenledgerError, ServiceUnreachable

TIMEOUT_S = 30.0
# A run of some millions of ids takes minutes at its share of the time.
CLEANUP_TIMEOUT_S = 3600.0
POLL_S = 0.25

Cost = Decimal | int | float | str | None


def is_generation_processed(generation_id: str, client_org_id: str) -> bool:
    """Whether an organisation's generation is known: a second telling of it would not count again."""
    return bool(_compared(generation_id, org=client_org_id)["known"])


def is_duplicate(request_id: str, model: str, cost: Cost) -> bool:
    """Whether a request of this model and cost is the one that is known by this id, to 1e-6 of a dollar.

    The cost is compared as decimals: a float counts as it is written. None is a cost that nobody knows.
    """
    return bool(_compared(request_id, model=model, cost=_text_of(cost))["duplicate"])


def cleanup_old_processed_generations(
    days: int | None = None, *, timeout_s: float = CLEANUP_TIMEOUT_S
) -> dict[str, Any]:
    """Forget ids older than so many days (CLEANUP_RETENTION_DAYS unless given), and wait till it is done.

    The seeds' dictionary of the run: `success`, `records_deleted`, `organization_breakdown` and the rest,
    costs as `Decimal`. A run that fails says so in it; one that can't begin, or takes longer than
    `timeout_s`, is a `GenledgerError`.
    """
    with closing(_service()) as service:
        begun = _asked(service, "POST", "/api/v1/admin/cleanup", {"days": days})
        run = str(begun["run"])
        for _ in range(max(1, round(timeout_s / POLL_S))):
            told = _asked(service, "GET", f"/api/v1/admin/cleanup/runs/{quote(run, safe='')}", absent={})
            if told and told["state"] != "running":  # the views may not know of it yet
                return _with_costs(told)
            time.sleep(POLL_S)
    raise GenledgerError(
        f"{run} has not ended within {timeout_s:g} s: it goes on in the service, and `genledger status` tells"
        " how it stands"
    )


def _compared(id: str, **query: str | None) -> dict[str, Any]:
    given = urlencode({name: value for name, value in query.items() if value is not None})
    with closing(_service()) as service:
        return _asked(service, "GET", f"/api/v1/generations/{quote(id, safe='')}/duplicate?{given}")


def _service() -> Gateway:
    found = settings.load(os.environ)
    host = f"[{found.host}]" if ":" in found.host else found.host
    return Gateway(found.url or f"http://{host}:{found.port}", found.api_key, TIMEOUT_S)


def _asked(
    service: Gateway, method: str, path: str, value: object = None, absent: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The answer's JSON; `absent` where there is no such thing."""
    body = None if value is None else msgspec.json.encode(value)
    answer = service.send(method, path, body)
    if isinstance(answer, Unanswered):
        raise ServiceUnreachable(f"the service does not answer ({answer}): GENLEDGER_URL says where it is")
    if answer.status == HTTPStatus.NOT_FOUND and absent is not None:
        return absent
    try:
        found = msgspec.json.decode(answer.body)
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return dict(found)
        error = found["error"]
        field = f"{error['field']}: " if error.get("field") else ""
        raise GenledgerError(f"{field}{error['message']} ({answer.status} {error['code']})")
    except (msgspec.DecodeError, UnicodeDecodeError, LookupError, TypeError, ValueError):
        raise ServiceUnreachable(f"what answers is not genledger ({answer.status})") from None


def _text_of(cost: Cost) -> str | None:
    """A cost as decimal text."""
    if cost is None:
        return None
    try:
        exact = Decimal(str(cost))
    except InvalidOperation:
        raise BadEvent("cost", "must be a number of dollars") from None
    if not exact.is_finite():
        raise BadEvent("cost", "must be a number of dollars")
    return f"{exact:f}"


def _with_costs(told: dict[str, Any]) -> dict[str, Any]:
    parts = {
        name: part | {"old_cost_removed": Decimal(part["old_cost_removed"])}
        for name, part in told["organization_breakdown"].items()
    }
    return told | {"old_cost_removed": Decimal(told["old_cost_removed"]), "organization_breakdown": parts}
