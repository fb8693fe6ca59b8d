"""What is to be rebuilt: which views, from which topic, up to where.

    plan = Plan(settings, parts=("summaries",), until_ms=1795217400000)
    plan.views                       # the views of these parts
    tables_of(plan.parts)            # the tables that they fill

A part is what can only be made together: `summaries` makes a row for an organisation that has no settings,
and `organizations` fills it, so the two are one part.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from projections.cleanup import Cleanup
from projections.conflicts import Conflicts
from projections.organizations import Organizations
from projections.points import Points
from projections.processed import Processed
from projections.summaries import Summaries
from projections.view import View
from streams import topics
from streams.settings import Settings, points_kept
from streams.snapshots import Manifest

Part = Literal["summaries", "processed", "conflicts", "cleanup", "points"]
Source = Literal["usage", "generations"]
Place = tuple[str, int]
# How far each view is to come in each place: the offset of the last record.
Stops = Mapping[tuple[str, str, int], int]

VIEWS: Mapping[str, View[Any, Any]] = {
    view.name: view for view in (Organizations(), Summaries(), Processed(), Conflicts(), Cleanup(), Points())
}
_VIEWS: Mapping[Part, tuple[str, ...]] = {
    "summaries": ("organizations", "summaries"),
    "processed": ("processed",),
    "conflicts": ("conflicts",),
    "cleanup": ("cleanup",),
    "points": ("points",),
}
_TABLES: Mapping[Part, tuple[str, ...]] = {
    "summaries": (
        "client_organizations",
        "user_client_mapping",
        "client_live_counters",
        "client_daily_usage",
        "client_user_daily_usage",
        "client_model_daily_usage",
        "model_daily_providers",
        "books",
    ),
    "processed": ("processed_generations",),
    "conflicts": ("generation_conflicts",),
    "cleanup": (
        "cleanup_partitions",
        "cleanup_pieces",
        "cleanup_organizations",
        "processed_generation_cleanup_log",
    ),
    "points": ("usage_points",),
}
PARTS: tuple[Part, ...] = tuple(_TABLES)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """One rebuild. `stops` ends each view exactly there; without them it goes to the log's end.

    With `checks` it also looks whether each fact's own figures agree.
    """

    settings: Settings
    parts: tuple[Part, ...]
    source: Source = "usage"
    until_ms: int | None = None
    stops: Stops | None = None
    checks: bool = False
    #: Whether to throw away what an earlier rebuild has left.
    anew: bool = False
    #: Where to keep what is known of ids, when events are decided anew.
    tables: str | None = None
    #: The snapshot to begin from, whatever the log says: one that is to be checked.
    snapshot: Manifest | None = None

    @property
    def views(self) -> Sequence[View[Any, Any]]:
        """The views of its parts."""
        return views_of(self.parts)


def parts_of(settings: Settings) -> tuple[Part, ...]:
    """The parts that are kept at all."""
    left_out = set()
    if not settings.processed_generations:
        left_out.add("processed")
    if points_kept(settings) != "sqlite":
        left_out.add("points")
    return tuple(part for part in PARTS if part not in left_out)


def views_of(parts: Sequence[Part]) -> Sequence[View[Any, Any]]:
    """The views of some parts."""
    return [VIEWS[name] for part in parts for name in _VIEWS[part]]


def tables_of(parts: Sequence[Part]) -> Sequence[str]:
    """The tables that belong to parts, and to nothing else."""
    return [table for part in parts for table in _TABLES[part]]


def topics_of(views: Sequence[View[Any, Any]]) -> Mapping[str, Sequence[View[Any, Any]]]:
    """The topics that views follow, each with those who follow it; the settings before the facts."""
    found: dict[str, list[View[Any, Any]]] = {}
    for view in views:
        for topic in view.topics:
            found.setdefault(topic, []).append(view)
    return dict(sorted(found.items(), key=lambda pair: pair[0] == topics.USAGE))
