"""The soak's series as a picture: small panels above one another, over the same days. SVG, by hand.

draw([Panel("ids known", days, {"ids": ids})])        # the text of an .svg

python -m tests.retention.plot soak.json docs/retention-year.svg
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

import msgspec

from tests.retention.soak import MARKS, Report

WIDTH, HEIGHT = 860, 118
LEFT, RIGHT, TOP, BELOW = 70, 190, 26, 22
COLORS = ("#1f6feb", "#c2410c", "#15803d", "#7c3aed")
INK, MUTED, GRID = "#1f2328", "#59636e", "#d1d9e0"
PARTS = 4
_FONT = 'font-family="system-ui, sans-serif" font-size="11"'


class Panel(msgspec.Struct, frozen=True):
    """One panel: its title, the days, and the lines in it. `marks`: days that are pointed out."""

    title: str
    days: Sequence[int]
    lines: Mapping[str, Sequence[float]]
    marks: Sequence[int] = ()


def panels_of(report: Report) -> Sequence[Panel]:
    """What the page shows."""

    def panel(title: str, lines: Mapping[str, str], unit: float = 1) -> Panel:
        series = {
            label: [getattr(one, name) / unit for one in report.points] for label, name in lines.items()
        }
        return Panel(title, [one.day + 1 for one in report.points], series, MARKS)

    return (
        panel("ids known", {"table": "ids"}),
        panel(
            "records of the compacted topics, before compaction",
            {"generations": "generations_records", "seen-changelog": "changelog_records"},
        ),
        panel(
            "their megabytes, and the table's on disk",
            {
                "generations": "generations_bytes",
                "seen-changelog": "changelog_bytes",
                "shelves": "shelf_bytes",
            },
            1e6,
        ),
        panel("megabytes of usage, which is kept", {"usage": "usage_bytes"}, 1e6),
        panel("microseconds of a look-up, p50", {"table": "table_p50_us", "SQLite": "sqlite_p50_us"}),
        panel("microseconds of a look-up, p99", {"table": "table_p99_us", "SQLite": "sqlite_p99_us"}),
        panel("megabytes of memory, the model's too", {"process": "rss_bytes"}, 1e6),
    )


def draw(panels: Sequence[Panel]) -> str:
    """The whole picture."""
    height = len(panels) * (HEIGHT + TOP + BELOW) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" {_FONT}>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for number, panel in enumerate(panels):
        parts += _panel(panel, number * (HEIGHT + TOP + BELOW) + TOP)
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, top: int) -> list[str]:
    last = max(panel.days)
    most = _round_up(max(max(values) for values in panel.lines.values()))

    def x_of(day: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * day / last

    def y_of(value: float) -> float:
        return top + HEIGHT * (1 - value / most)

    parts = [_text(LEFT, top - 9, panel.title, INK, "bold")]
    for part in range(PARTS + 1):
        value, day = most * part / PARTS, round(last * part / PARTS)
        parts.append(_line(LEFT, y_of(value), x_of(last), y_of(value), GRID))
        parts.append(_text(LEFT - 8, y_of(value) + 4, f"{value:,.10g}", MUTED, anchor="end"))
        parts.append(_text(x_of(day), top + HEIGHT + 15, f"day {day}", MUTED, anchor="middle"))
    marks = [x_of(day) for day in panel.marks if day <= last]
    parts += [_line(x, top, x, top + HEIGHT, MUTED, "2 3") for x in marks]
    ends: list[float] = []
    for color, (label, values) in zip(COLORS, panel.lines.items(), strict=False):
        points = " ".join(
            f"{x_of(day):.1f},{y_of(value):.1f}" for day, value in zip(panel.days, values, strict=True)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.8"/>')
        at = _free(y_of(values[-1]) + 4, ends)
        ends.append(at)
        newest = f"{values[-1]:,.0f}" if most > 100 else f"{values[-1]:.3g}"
        parts.append(_text(x_of(last) + 8, at, f"{label}: {newest}", color))
    return parts


def _free(at: float, taken: Sequence[float]) -> float:
    """A height at which a label stands on no other."""
    while any(abs(at - other) < 13 for other in taken):
        at += 13
    return at


def _round_up(value: float) -> float:
    """The next number of one digit, or 1.5 or 2.5, with zeros."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value > 0:
        power /= 10
    return next(step * power for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if step * power >= value)


def _line(x1: float, y1: float, x2: float, y2: float, color: str, dash: str = "") -> str:
    dashed = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"{dashed}/>'


def _text(x: float, y: float, text: str, color: str, weight: str = "normal", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}" font-weight="{weight}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def main() -> None:
    """From what was measured to the picture."""
    report = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Report)
    Path(sys.argv[2]).write_text(draw(panels_of(report)))


if __name__ == "__main__":
    main()
