"""Recomputes a month's statement from an export of facts, and checks the export. It needs Python only.

    genledger export facts acme.ndjson.gz --org acme --month 2026-11
    genledger report --org acme --month 2026-11 --by user --json > ours.json
    python audit.py acme.ndjson.gz 2026-11 acme --by user --statement ours.json --csv mine.csv

Exit code 0: all is as it should be. 3: it is not, and stderr says what was found. Rules: docs/auditing.md.
"""

import argparse
import csv
import gzip
import hashlib
import json
import sys
from contextlib import nullcontext
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

COUNTS = ("requests", "unpriced_requests", "prompt_tokens", "completion_tokens", "total_tokens")
MONEY = ("raw_cost", "markup_cost")


def audit(export, month, organization, by, lines, found):
    """Reads an export to its end: fills the statement's lines, and the list of what is wrong."""
    digest, header, row, count = hashlib.sha256(first := next(export)), json.loads(first), {}, 0
    scope = {name: header[name] for name in ("organization", "month", "from", "to") if header[name]}
    if header["schema"] != 1 or not scope.items() <= {"organization": organization, "month": month}.items():
        found.append(f"the export has not all of {organization!r} in {month}: {header}")
    held, opened, last, limits = {}, {}, {}, {one["partition"]: one for one in header["partitions"]}
    for line in export:
        if "end" in (row := json.loads(line)):
            break
        digest.update(line)
        count, place, at, id, fate = count + 1, row["partition"], row["usage_offset"], row["id"], row["fate"]
        (before, prev), limit = last.get(place, (-1, -1)), limits[place]
        last[place] = at, row["offset"]
        wrong = [] if before < at and limit["start"] <= at < limit["end"] else ["it is out of place"]
        if not scope and row["prev"] != prev and (before >= 0 or limit["start"] == 0):
            wrong.append("the fact before it is missing")
        opens = fate == "opening" and not any(side and side["margin"] for side in (row["minus"], row["plus"]))
        worth = {-1: None, 1: None}
        for sign, side in ((-1, row["minus"]), (1, row["plus"])):
            if side and (side["organization"], side["day"][:7]) == (organization, month) and side["requests"]:
                worth[sign] = hash(json.dumps({**side, "zone": side["margin"] or side["zone"]}))
                cost, markup, rate = side["cost_nano"], side["markup_nano"], side["rate"]
                side["unpriced_requests"] += not side["margin"] and cost is None
                if not side["margin"] and markup != (None if cost is None else round(Fraction(rate) * cost)):
                    wrong.append(f"its markup is {markup}: not {cost} times {rate}, rounded half-even")
                if fate != "forgotten" and not opens and side["margin"] in ("", by):
                    more = [*map(side.get, COUNTS), cost or 0, markup or 0]
                    pairs = zip(lines.get(side[by], [0] * 7), more, strict=True)
                    lines[side[by]] = [have + sign * each for have, each in pairs]
        told = row["minus"] or row["plus"]  # else the fact says nothing of what its id is worth
        if told and worth[-1] != (held.pop(id, None) or (worth[-1] and opened.pop(id, None))):
            wrong.append("it does not take away what was counted: one is missing, or counts twice")
        if after := worth[-1 if fate == "forgotten" else 1]:
            (opened if opens else held)[id] = after
        found += [f"{id!r}, fact {place}/{at}: {problem}" for problem in wrong]
    if row.get("facts") != count or row.get("sha256") != digest.hexdigest() or next(export, None):
        found.append(f"the export was cut or changed: {count} facts, then {row}")


def shown(name, line):
    """Exact, and nothing that a terminal obeys or a spreadsheet takes for a formula."""
    text = "total" if name is None else name if name.isprintable() else ascii(name)[1:-1]
    dollars = [f"{Decimal(nano).scaleb(-9):f}" for nano in line[5:]]
    return [f"'{text}" if text.startswith(("=", "+", "-", "@")) else text, *line[:5], *dollars]


def main(argv=None):
    """Print the statement, or write it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("export", "month", "organization", "--by", "--statement", "--csv"):
        parser.add_argument(name, default="day" if name == "--by" else None)
    args, mine, found = parser.parse_args(argv), {}, []
    try:
        with (gzip.open if args.export.endswith(".gz") else open)(args.export, "rb") as export:
            audit(export, args.month, args.organization, args.by, mine, found)
    except Exception as error:
        found.append(f"the export can't be read to its end: {error!r}")
    mine = dict(sorted(mine.items())) | {None: [*map(sum, zip([0] * 7, *mine.values(), strict=True))]}
    if args.statement:
        told = json.loads(Path(args.statement).read_bytes())
        ours = {line[args.by]: line for line in told["lines"]} | {None: told["total"]}
        for name in mine.keys() | ours.keys():
            if (line := ours.get(name)) is not None:
                line = [*map(line.get, COUNTS), *(int(Decimal(line[n]).scaleb(9)) for n in MONEY)]
            if line != mine.get(name):
                found.append(f"{args.by} {name!r}: {mine.get(name)} here, {line} in the statement")
    with Path(args.csv).open("w", newline="") if args.csv else nullcontext(sys.stdout) as out:
        csv.writer(out).writerows([(args.by, *COUNTS, *MONEY), *(shown(*line) for line in mine.items())])
    print(*found, sep="\n", end="\n" * bool(found), file=sys.stderr)
    return 3 if found else 0


if __name__ == "__main__":
    sys.exit(main())
