"""What is said of InfluxDB in the environment, and what can't be meant."""

import pytest

from streams import settings
from streams.errors import SettingError
from streams.settings import points_kept


def test_an_empty_setting_is_none():
    """Compose files set what nobody gave as an empty text: that is legacy mode, and no error."""
    names = [one.env for one in settings.TABLE if one.env.startswith("INFLUXDB_")]
    assert points_kept(settings.load(dict.fromkeys(names, ""))) == "sqlite"
    url = {"INFLUXDB_URL": "http://h:8086", "INFLUXDB_BUCKET": "b"}
    assert points_kept(settings.load(dict.fromkeys(names, "") | url)) == "influxdb"


@pytest.mark.parametrize("scheme", ["http", "ftp"])
def test_a_password_in_the_url_is_refused_and_not_shown(scheme):
    """`config show` and the status name the URL; the token is the place for a login."""
    url = f"{scheme}://user:secret@h:8086"
    with pytest.raises(SettingError, match="INFLUXDB_URL must hold no password") as raised:
        settings.load({"INFLUXDB_URL": url, "INFLUXDB_BUCKET": "b"})
    assert "secret" not in str(raised.value)
