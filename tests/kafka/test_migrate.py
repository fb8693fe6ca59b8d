"""A legacy database brought onto a cluster: through a gateway, from where the summaries are."""

from pathlib import Path
from typing import Any

from tests.kafka.installation import Installation
from tests.migrate.asking import OWN, House, days_of, read_back
from tests.migrate.legacy import make


def test_a_legacy_database_comes_by_a_gateway(kafka: Any, topic_prefix: str, tmp_path: Path) -> None:
    """As on one machine: exact, checked, killed and gone on with, not moved by a sync, and taken back."""
    legacy = make(tmp_path / "webui.db", organizations=4, users=20, days=10)
    site = Installation(f"kafka://{kafka.bootstrap}", topic_prefix, tmp_path, partitions=2)
    site.apply()
    with site.running("gateway", "ledger", "summaries") as (gateway, *_):
        house = House(gateway, **site.environ)
        house.publish(OWN)
        before = house.dump()
        assert house.bring(legacy, kill_at="migration-sent:1").code == -9
        ran = house.bring(legacy)
        assert ran.code == 0, ran.err
        assert (house.totals(), house.ids()) == (legacy.totals, legacy.ids)
        assert house.migrate("--validate-migration", *days_of(legacy)).code == 0
        after = house.dump()
        house.publish([read_back(call) for call in legacy.calls])
        assert house.dump() == after
        taken = house.migrate("--rollback", "--backup-id", ran.out.partition(":")[0])
        assert taken.code == 0, taken.err
        assert house.dump() == before
