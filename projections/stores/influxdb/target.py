"""Which InfluxDB the points go to, by the settings.

target = target_of(settings)      # None: legacy mode, or no InfluxDB is configured
"""

from typing import Literal

import msgspec

from streams.settings import Settings, influxdb_first


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One bucket of one server. Of 1.8 and 3 the bucket is the database, and there is no organisation."""

    url: str
    token: str
    org: str
    bucket: str
    write_timeout_s: float
    dedup: Literal["time", "tag"]
    version: Literal["auto", "1", "2", "3"] = "auto"

    def __repr__(self) -> str:
        """Without the token: targets come by in tracebacks."""
        return f"Target(url={self.url!r}, org={self.org!r}, bucket={self.bucket!r})"


def target_of(settings: Settings) -> Target | None:
    """Where raw points go; None when they stay in SQLite."""
    if not influxdb_first(settings):
        return None
    cloud = settings.influxdb_use_cloud
    return Target(
        url=(settings.influxdb_cloud_url if cloud else settings.influxdb_url).rstrip("/"),
        token=settings.influxdb_cloud_token if cloud else settings.influxdb_token,
        org=settings.influxdb_cloud_org if cloud else settings.influxdb_org,
        bucket=settings.influxdb_cloud_bucket if cloud else settings.influxdb_bucket,
        write_timeout_s=settings.influxdb_write_timeout_ms / 1000,
        dedup=settings.influxdb_dedup,
        version=settings.influxdb_version,
    )
