"""A point, as the tests of InfluxDB's parts vary it."""

from projections.points import Point

NOW_NS = 1_795_217_400_000_000_000
POINT = Point(
    "gen-1",
    NOW_NS,
    "acme",
    "openai/gpt-4o",
    "OpenAI",
    "webhook",
    "u1",
    "anna",
    "2026-11-20",
    100,
    50,
    150,
    12_300_000,
    15_990_000,
    321,
    17,
    1_795_217_400_123,
)
