"""The whole migration: check, begin, go on, take back. Each step may be killed, and is gone on with.

    with legacy(path) as source, service.client(offline=True) as client:
        Migration(settings, client).migrate(source, Order("2025-01-01", "2025-12-31"))

The entries are planned once, from one state of the legacy file, and then published in order: a run that was
killed goes on with the plan that there is. What earlier migrations have published is not published again.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec

from genledger import copies
from genledger.client import Client
from genledger.legacy import backups, entries, here, overlap, people
from genledger.legacy.asked import Policy
from genledger.legacy.backups import Folder, Manifest
from genledger.legacy.findings import Findings
from genledger.legacy.overlap import Day, Earlier, Overlap
from genledger.legacy.people import Zones
from genledger.legacy.plan import Plan
from genledger.legacy.sending import BATCH, Sender, wait_for_views, wait_until_read
from genledger.legacy.source import Source
from genledger.legacy.tables import SUMMARIES
from genledger.output import say, visible
from genledger.progress import Progress
from genledger.publisher import STATUS_ROUTE
from streams import faultpoints, openings, topics
from streams.errors import GenledgerError
from streams.settings import Settings

KNOWN = "known"
# A plan's entry with its index; what the disk must have room for, at the least.
ENTRY_BYTES = 600


class Order(msgspec.Struct, frozen=True):
    """Which days, and what becomes of those that both systems counted."""

    first_day: str
    last_day: str
    overlap: Policy = "refuse"


# Key, margin, line; organisation, day, requests.
Entry = tuple[str, str, bytes, str, str, int]


class Prepared(msgspec.Struct):
    """What a migration would do."""

    entries: dict[str, int]
    unchanged: int
    organizations: list[str]
    users: int
    left_out: list[Day]


class Refusal(GenledgerError):
    """The migration can't begin: the findings say why."""

    def __init__(self, found: Findings) -> None:
        super().__init__(
            "nothing was migrated: mend what is wrong, or name the days with --start-date/--end-date"
        )
        self.found = found


class Migration:
    """Between a legacy file and one service."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client
        status = client.get(STATUS_ROUTE)
        self._log = str(status.get("log") or "")
        self._runs = bool(status.get("roles"))

    def check(self, source: Source, order: Order, found: Findings) -> Prepared:
        """What is wrong with the file and with this installation, and what would be done; changes nothing."""
        source.check(found)
        if not found.errors:
            source.check_rows(order.first_day, order.last_day, found)
        wanted, users = people.wanted_organizations(source, found), people.wanted_users(source, found)
        lacking = people.lacking(self._client, wanted, found)
        mapped = people.lacking_users(self._client, users)
        both = Overlap({}, {})
        counts, unchanged = dict.fromkeys((KNOWN, "day", "user", "model"), 0), 0
        if not found.errors:
            with ExitStack() as stack:
                earlier = Earlier(backups.every(self._settings), stack)
                both = self._overlap(source, order, earlier)
                tell_overlap(both, order.overlap, found)
                counts, unchanged = self._count(source, order, both, earlier)
        self._check_room(sum(counts.values()), found)
        for folder in self._unfinished():
            mend = f"run --migrate with the same options again, or --rollback --backup-id {folder.id}"
            found.warn(folder.id, "is a migration that has not come to its end", mend)
        ids = [fields["id"] for fields in lacking]
        return Prepared(counts, unchanged, ids, len(mapped), list(both.days))

    def _check_room(self, count: int, found: Findings) -> None:
        folder = Path(self._settings.data)
        try:
            copies.require_room(folder, count * ENTRY_BYTES)
        except (GenledgerError, OSError) as error:
            found.error(visible(folder), str(error), "make room")

    def _overlap(self, source: Source, order: Order, earlier: Earlier) -> Overlap:
        first, last = order.first_day, order.last_day
        ids = source.known_ids(first, last, Findings())
        with here.views(self._settings) as found:
            return overlap.overlap(source.days(first, last), ids, first, last, found, earlier)

    def _count(
        self, source: Source, order: Order, both: Overlap, earlier: Earlier
    ) -> tuple[dict[str, int], int]:
        counts, unchanged = dict.fromkeys((KNOWN, "day", "user", "model"), 0), 0
        for key, margin, line, *_ in self._entries(source, order, both):
            if is_known_already(earlier.line_of(key), line, margin):
                unchanged += 1
            else:
                counts[margin] += 1
        return counts, unchanged

    def _entries(self, source: Source, order: Order, both: Overlap) -> Iterator[Entry]:
        """Key, margin, line, organisation, day, requests: known ids first, so that no sync counts them."""
        zones = Zones(self._client, self._settings.default_timezone)
        days, ignored = (order.first_day, order.last_day), Findings()
        without = set(both.days) if order.overlap == "skip" else set()
        for row in source.known_ids(*days, ignored):
            if (row.organization, row.day) not in without:
                line = entries.known_line(row, zones.on(row.organization, row.day))
                yield row.id, KNOWN, line, row.organization, row.day, 0
        for table in SUMMARIES:
            for one in source.balances(table, *days, ignored):
                if (one.organization, one.day) not in without:
                    key, line = openings.key_of(one), entries.balance_line(one)
                    yield key, table.margin, line, one.organization, one.day, one.requests

    def migrate(self, source: Source, order: Order, found: Findings) -> Manifest | None:
        """Begin, or go on with what was begun, until the views have it; None when there is nothing to do."""
        with backups.locked(self._settings):
            folder = self._to_be_gone_on_with(source, order)
            if folder is None:
                self._catch_up()
                prepared = self.check(source, order, found)
                if found.errors:
                    raise Refusal(found)
                if not (sum(prepared.entries.values()) or prepared.organizations or prepared.users):
                    return None
                folder = self._begin(source, order, prepared)
            else:
                say(f"{folder.id}: going on from entry {folder.manifest().published}")
            self._make_people(source, folder)
            self._publish(folder)
            return folder.manifest()

    def _catch_up(self) -> None:
        """The views have what was published before: it is they who know what was counted here."""
        if self._runs:
            wait_until_read(self._client)

    def _unfinished(self) -> list[Folder]:
        return [
            folder
            for folder in backups.every(self._settings)
            if folder.manifest().state in ("publishing", "rolling back")
        ]

    def _to_be_gone_on_with(self, source: Source, order: Order) -> Folder | None:
        for folder in self._unfinished():
            manifest = folder.manifest()
            same = (str(source.path.resolve()), order.first_day, order.last_day, order.overlap)
            begun = (manifest.legacy, manifest.first_day, manifest.last_day, manifest.overlap)
            if manifest.state != "publishing" or begun != same:
                raise GenledgerError(
                    f"{folder.id} has not come to its end (--from {visible(manifest.legacy)} --start-date"
                    f" {manifest.first_day} --end-date {manifest.last_day} --overlap {manifest.overlap}):"
                    f" run it again, or --rollback --backup-id {folder.id}"
                )
            self._check_log(manifest)
            return folder
        return None

    def _check_log(self, manifest: Manifest) -> None:
        if manifest.log and self._log and manifest.log != self._log:
            raise GenledgerError(f"{manifest.id} went to another ledger than the one that answers here")

    def _begin(self, source: Source, order: Order, prepared: Prepared) -> Folder:
        """The backup, the plan, and the manifest that says they are there."""
        folder = backups.begun(self._settings)
        copied = copies.back_up(self._settings, folder.path / backups.LEDGER)
        if not self._runs and copied.log is not None:
            self._require_decided(copied.log.ends)
        counts = dict.fromkeys(prepared.entries, 0)
        total = sum(prepared.entries.values())
        with ExitStack() as stack:
            earlier = Earlier(backups.every(self._settings), stack)
            both = self._overlap(source, order, earlier)
            refused = Findings()
            tell_overlap(both, order.overlap, refused)
            if refused.errors:  # since the check
                raise Refusal(refused)
            plan = stack.enter_context(Plan(folder.records, make=True))
            bar = stack.enter_context(Progress("planning", "entries"))
            for key, margin, line, organization, day, requests in self._entries(source, order, both):
                if not is_known_already(earlier.line_of(key), line, margin):
                    plan.add(key, line, organization=organization, day=day, margin=margin, requests=requests)
                    counts[margin] += 1
                    if plan.size % BATCH == 0:
                        bar.moved(plan.size, max(total, plan.size))
        folder.write(
            Manifest(
                id=folder.id,
                state="publishing",
                legacy=str(source.path.resolve()),
                first_day=order.first_day,
                last_day=order.last_day,
                log=self._log,
                overlap=order.overlap,
                left_out=list(both.days),
                records=sum(counts.values()),
                entries=counts,
            )
        )
        faultpoints.reached("migration-planned")
        return folder

    def _require_decided(self, ends: Mapping[str, int]) -> None:
        """Without a service nobody decides what waits: the views must have all that the log has."""
        newest = {
            int(place.rpartition("/")[2]): end - 1
            for place, end in ends.items()
            if place.startswith(f"{topics.GENERATIONS}/") and end
        }
        with here.views(self._settings) as found:
            if found.behind(newest):
                raise GenledgerError(
                    "the log has records that nobody has decided yet: start `genledger serve`, wait until"
                    " `genledger books` has nothing in flight, then run this again"
                )

    def _make_people(self, source: Source, folder: Folder) -> None:
        manifest, ignored = folder.manifest(), Findings()
        wanted = people.lacking(self._client, people.wanted_organizations(source, ignored), ignored)
        made = people.make_organizations(self._client, wanted)
        users = people.lacking_users(self._client, people.wanted_users(source, ignored))
        mapped = people.make_users(self._client, users)
        manifest.organizations_made = [*manifest.organizations_made, *made]
        manifest.users_made += mapped
        folder.write(manifest)

    def _publish(self, folder: Folder) -> None:
        manifest, sender = folder.manifest(), Sender(self._client)
        sender.newest = {int(partition): offset for partition, offset in manifest.newest.items()}
        with Plan(folder.records) as plan, Progress("publishing", "entries") as bar:
            while manifest.published < plan.size:
                piece = plan.keys_and_lines(manifest.published, manifest.published + BATCH)
                sender.send([line for _, line in piece])
                faultpoints.reached("migration-sent")
                manifest.published += len(piece)
                manifest.newest = {str(partition): offset for partition, offset in sender.newest.items()}
                folder.write(manifest)
                bar.moved(manifest.published, plan.size)
        self._wait(sender)
        manifest.state = "done"
        folder.write(manifest)

    def _wait(self, sender: Sender) -> None:
        if not self._runs:
            say("no service runs: it decides what was published once it is started")
            return
        with Progress("the views read", "records") as bar:
            wait_for_views(self._settings, sender.newest, bar.moved)

    def roll_back(self, id: str, *, dry_run: bool = False) -> Manifest:
        """Take back what a migration published: what counted before it counts again."""
        with backups.locked(self._settings):
            folder = backups.named(self._settings, id)
            manifest = folder.manifest()
            self._check_log(manifest)
            if manifest.state == "rolled back" or dry_run:
                return manifest
            self._check_later(folder)
            if manifest.state != "rolling back":
                # The batch after those that are known to be on the log may be there, too.
                manifest.published = min(manifest.published + BATCH, manifest.records)
                manifest.state = "rolling back"
                folder.write(manifest)
            self._take_back(folder, manifest)
            return manifest

    def _check_later(self, folder: Folder) -> None:
        """A later migration of the same rows took their place: it goes first."""
        later = [one for one in backups.every(self._settings) if one.id > folder.id]
        with Plan(folder.records) as plan:
            for one in later:
                if one.manifest().state != "rolled back" and shares_keys(one, plan):
                    raise GenledgerError(
                        f"{one.id} came later and has rows of {folder.id}: roll it back first"
                    )

    def _take_back(self, folder: Folder, manifest: Manifest) -> None:
        sender = Sender(self._client)
        before = [one for one in backups.every(self._settings) if one.id < folder.id]
        with ExitStack() as stack:
            earlier = Earlier(before, stack)
            plan = stack.enter_context(Plan(folder.records))
            bar = stack.enter_context(Progress("taking back", "entries"))
            while (left := manifest.published - manifest.taken_back) > 0:
                piece = plan.keys_and_lines(max(0, left - BATCH), left)
                sender.send(
                    [earlier.line_of(key) or entries.taken_back(line) for key, line in reversed(piece)]
                )
                faultpoints.reached("migration-sent")
                manifest.taken_back += len(piece)
                manifest.newest = {str(partition): offset for partition, offset in sender.newest.items()}
                folder.write(manifest)
                bar.moved(manifest.taken_back, manifest.published)
        self._wait(sender)
        manifest.state = "rolled back"
        folder.write(manifest)


def is_known_already(before: bytes | None, line: bytes, margin: str) -> bool:
    """Whether an earlier migration has said it. Of an id the first word stands. Pure."""
    return before == line or (before is not None and margin == KNOWN)


def shares_keys(folder: Folder, plan: Plan) -> bool:
    """Whether two migrations have a row in common."""
    with Plan(folder.records) as other:
        for start in range(0, other.size, BATCH):
            if any(plan.line_of(key) is not None for key, _ in other.keys_and_lines(start, start + BATCH)):
                return True
    return False


def tell_overlap(both: Overlap, policy: Policy, found: Findings) -> None:
    """What is known of days that both systems counted, and what is to be done. Pure."""
    for day in both.days:
        requests, ids = both.requests.get(day, 0), both.ids.get(day, 0)
        place = f"{visible(day[0])} {day[1]} ({requests} requests, {ids} of the file's ids)"
        if policy == "refuse":
            found.error(
                place,
                "was counted here, too: its total would count twice what is in both",
                "end before this service went live (--end-date), leave such days out (--overlap skip), or say"
                " --overlap add if no call is in both",
            )
        elif policy == "add" and ids:
            found.error(
                place,
                "has ids in the file that are counted here: its total counts them, too",
                "leave such days out with --overlap skip",
            )
        else:
            what = "is left out: it was counted here, too" if policy == "skip" else "is added to what is here"
            found.warn(place, what)
