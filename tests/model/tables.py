"""Every table as it must stand, column by column, from the winners of a model.

    expected = tables(model, settings_records)
    expected["client_daily_usage"][("acme", "2025-10-25")]["raw_cost_nano"]

Figures are sums over the winners as they stand at the end; nothing is ever taken away. A row is there when
some fact touched it, also if nothing is left of it.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.model.ledger import Model, Touched, Worth

Value = str | int | float | None
Row = dict[str, Value]
Tables = dict[str, dict[tuple[str, ...], Row]]


@dataclass(frozen=True, slots=True)
class SettingsRecord:
    """When an organisation's or a user's settings came: the key on the log, its first and its last time."""

    key: tuple[str, ...]
    created_ms: int
    updated_ms: int


@dataclass
class Sum:
    """The figures of one row."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    raw_nano: int = 0
    markup_nano: int = 0
    unpriced: int = 0

    def add(self, worth: Worth) -> None:
        """One more generation."""
        self.requests += 1
        self.prompt_tokens += worth.prompt_tokens
        self.completion_tokens += worth.completion_tokens
        self.total_tokens += worth.total_tokens
        self.raw_nano += worth.cost_nano or 0
        self.markup_nano += worth.markup_nano or 0
        self.unpriced += worth.cost_nano is None

    def columns(self) -> Row:
        """The columns that all summaries share."""
        return {
            "total_requests": self.requests,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.total_tokens,
            "raw_cost_nano": self.raw_nano,
            "raw_cost": self.raw_nano / 10**9,
            "markup_cost_nano": self.markup_nano,
            "markup_cost": self.markup_nano / 10**9,
            "unpriced_requests": self.unpriced,
        }


Sums = dict[tuple[str, ...], Sum]


def tables(model: Model, settings_records: Sequence[SettingsRecord] = ()) -> Tables:
    """All tables that the road fills, by the keys of their rows."""
    worths = [worth for id in model.ids.values() if (worth := model.worth(id)) is not None]
    days = _sums(((w.organization, w.day), w) for w in worths)
    users = _sums(((w.organization, w.day, w.user), w) for w in worths)
    models = _sums(((w.organization, w.day, w.model), w) for w in worths)
    providers = _sums(((w.organization, w.day, w.model, w.provider), w) for w in worths)
    return {
        "client_organizations": _organizations(model, settings_records),
        "user_client_mapping": _mappings(model, settings_records),
        "client_live_counters": _live(model, days),
        "client_daily_usage": _days(model, days, users, models),
        "client_user_daily_usage": _users(model, users),
        "client_model_daily_usage": _models(model, models, providers),
        "processed_generations": _processed(model),
        "usage_points": _points(model),
    }


def row_id(*parts: str) -> str:
    """The id of a row: BLAKE2b, 16 bytes, of its key as a JSON array."""
    text = json.dumps(list(parts), ensure_ascii=False, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _sums(pairs: Iterable[tuple[tuple[str, ...], Worth]]) -> Sums:
    sums: Sums = defaultdict(Sum)
    for key, worth in pairs:
        sums[key].add(worth)
    return sums


def _touched(model: Model, kind: str) -> list[tuple[tuple[str, ...], Touched]]:
    return [(key[1:], touched) for key, touched in model.touched.items() if key[0] == kind]


def _times(touched: Touched) -> Row:
    return {"created_at": touched.first_ms // 1000, "updated_at": touched.last_ms // 1000}


def _first(candidates: Iterable[tuple[str, Sum]]) -> str | None:
    """The name with the most requests; of equals the dearer one, then the first by name."""
    standing = sorted((-s.requests, -s.raw_nano, name) for name, s in candidates if s.requests)
    return standing[0][2] if standing else None


def _grouped(sums: Sums, parts: int) -> dict[tuple[str, ...], list[tuple[str, Sum]]]:
    groups: dict[tuple[str, ...], list[tuple[str, Sum]]] = defaultdict(list)
    for key, found in sums.items():
        groups[key[:parts]].append((key[parts], found))
    return groups


def _days(model: Model, days: Sums, users: Sums, models: Sums) -> dict[tuple[str, ...], Row]:
    by_model, by_user = _grouped(models, 2), _grouped(users, 2)
    rows: dict[tuple[str, ...], Row] = {}
    for (organization, day), touched in _touched(model, "day"):
        key = (organization, day)
        rows[key] = {
            "id": row_id(organization, day),
            "client_org_id": organization,
            "usage_date": day,
            **days.get(key, Sum()).columns(),
            "primary_model": _first(by_model[key]),
            "unique_users": sum(1 for user, found in by_user[key] if user and found.requests),
            **_times(touched),
        }
    return rows


def _users(model: Model, users: Sums) -> dict[tuple[str, ...], Row]:
    rows: dict[tuple[str, ...], Row] = {}
    for (organization, user, day), touched in _touched(model, "user"):
        rows[organization, day, user] = {
            "id": row_id(organization, day, user),
            "client_org_id": organization,
            "user_id": model.settings.user_id(organization, user, day),
            "openrouter_user_id": user,
            "usage_date": day,
            **users.get((organization, day, user), Sum()).columns(),
            **_times(touched),
        }
    return rows


def _models(model: Model, models: Sums, providers: Sums) -> dict[tuple[str, ...], Row]:
    by_provider = _grouped(providers, 3)
    rows: dict[tuple[str, ...], Row] = {}
    for (organization, name, day), touched in _touched(model, "model"):
        key = (organization, day, name)
        rows[key] = {
            "id": row_id(*key),
            "client_org_id": organization,
            "model_name": name,
            "usage_date": day,
            **models.get(key, Sum()).columns(),
            "provider": _first(by_provider[key]),
            **_times(touched),
        }
    return rows


def _live(model: Model, days: Sums) -> dict[tuple[str, ...], Row]:
    rows: dict[tuple[str, ...], Row] = {}
    for (organization,), touched in _touched(model, "organization"):
        today = model.settings.day(organization, touched.last_ms * 10**6)
        found = days.get((organization, today), Sum())
        rows[(organization,)] = {
            "client_org_id": organization,
            "current_date": today,
            "today_tokens": found.total_tokens,
            "today_requests": found.requests,
            "today_raw_cost": found.raw_nano / 10**9,
            "today_markup_cost": found.markup_nano / 10**9,
            "today_raw_cost_nano": found.raw_nano,
            "today_markup_cost_nano": found.markup_nano,
            "today_unpriced_requests": found.unpriced,
            "last_updated": touched.last_ms // 1000,
        }
    return rows


def _processed(model: Model) -> dict[tuple[str, ...], Row]:
    rows: dict[tuple[str, ...], Row] = {}
    for id, known in model.ids.items():
        if not known.believed:
            continue
        worth = model.worth(known)
        # A void is worth nothing; a cost that nobody knows is unknown, not nothing.
        cost_nano = 0 if worth is None else worth.cost_nano
        rows[(id,)] = {
            "id": id,
            "client_org_id": known.winner.organization,
            "generation_date": model.day_of(known),
            "processed_at": known.first_ms // 1000,
            "total_cost_nano": cost_nano,
            "total_cost": None if cost_nano is None else cost_nano / 10**9,
            "total_tokens": 0 if worth is None else worth.total_tokens,
        }
    return rows


def _points(model: Model) -> dict[tuple[str, ...], Row]:
    rows: dict[tuple[str, ...], Row] = {}
    for id, known in model.ids.items():
        worth = model.worth(known)
        if worth is None:
            continue
        # What the log dated is known to the second.
        time_ns = known.date_ns - (known.date_ns % 10**9 if known.winner.created_ns is None else 0)
        rows[(id,)] = {
            "id": id,
            "client_org_id": worth.organization,
            "usage_date": worth.day,
            "time_ns": time_ns,
            "model_name": worth.model,
            "provider": worth.provider,
            "source": known.winner.source,
            "user_id": worth.user_id,
            "openrouter_user_id": worth.user,
            "prompt_tokens": worth.prompt_tokens,
            "completion_tokens": worth.completion_tokens,
            "total_tokens": worth.total_tokens,
            "raw_cost_nano": worth.cost_nano,
            "raw_cost": None if worth.cost_nano is None else worth.cost_nano / 10**9,
            "markup_cost_nano": worth.markup_nano,
            "markup_cost": None if worth.markup_nano is None else worth.markup_nano / 10**9,
            "latency_ms": known.winner.latency_ms,
            "logged_ms": known.won_ms,
        }
    return rows


def _organizations(model: Model, records: Sequence[SettingsRecord]) -> dict[tuple[str, ...], Row]:
    rows: dict[tuple[str, ...], Row] = {}
    for id, first_ms in model.seen.items():
        rows[(id,)] = _organization(model, id, first_ms, first_ms, 0)
    for record in records:
        if len(record.key) == 1:
            id = record.key[0]
            first_ms = min(record.created_ms, model.seen.get(id, record.created_ms))
            rows[(id,)] = _organization(model, id, first_ms, record.updated_ms, 1)
    return rows


def _organization(model: Model, id: str, created_ms: int, updated_ms: int, has_settings: int) -> Row:
    def value(name: str) -> str | None:
        return model.settings.value(id, name, updated_ms * 10**6)

    reference, markup, limit = value("provider_key"), value("markup"), value("monthly_limit")
    return {
        "id": id,
        "name": value("name") or id,
        "openrouter_api_key": reference,
        "openrouter_key_hash": hashlib.sha256(reference.encode()).hexdigest() if reference else None,
        "markup_rate": float(markup) if markup else None,
        "monthly_limit": float(limit) if limit else None,
        "billing_email": value("billing_email"),
        "timezone": value("timezone"),
        "is_active": 1,
        "has_settings": has_settings,
        "created_at": created_ms // 1000,
        "updated_at": updated_ms // 1000,
    }


def _mappings(model: Model, records: Sequence[SettingsRecord]) -> dict[tuple[str, ...], Row]:
    rows: dict[tuple[str, ...], Row] = {}
    for record in records:
        if len(record.key) == 2:
            organization, user = record.key
            rows[record.key] = {
                "id": row_id(organization, user),
                "user_id": model.settings.user_id(organization, user, "9999-12-31"),
                "client_org_id": organization,
                "openrouter_user_id": user,
                "is_active": 1,
                "created_at": record.created_ms // 1000,
                "updated_at": record.updated_ms // 1000,
            }
    return rows
