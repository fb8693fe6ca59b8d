"""Every setting: its name, its default and the reason for it. Environment first, then genledger.toml.

    settings = load(os.environ, Path("genledger.toml"))
    settings.port, settings.origin["port"]

An unknown GENLEDGER_ name is an error, so that a slip of the pen is not a silent default. A secret may be
given as a file: NAME_FILE holds its path.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from streams import money, times
from streams.errors import SettingError

# A killed worker's partitions rest until its session has timed out.
SESSION_TIMEOUT_S_MAX = 10.0
# Where a secret came from, when it came from a file of its own.
FILE_ORIGIN = "the file "
# The most points in one write to InfluxDB.
POINTS_MAX = 5000
# Where raw points are kept.
PointsKept = Literal["sqlite", "influxdb", "nowhere"]
# Days that an id is remembered at least and at most (what is older than a hundred years nobody has, and days
# before the year 1 are none), and that facts stay beyond their ids'.
RETENTION_DAYS_MIN = 7
RETENTION_DAYS_MAX = 36_500
USAGE_KEPT_BEYOND_DAYS = 30
_TIME_OF_DAY = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


class Setting(msgspec.Struct, frozen=True):
    """One row of the table: `name` is the attribute, `env` what a user writes."""

    name: str
    env: str
    why: str
    secret: bool = False


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The values. The order is the order of `genledger config show`."""

    data: str = "./data"
    broker: str = ""
    host: str = "127.0.0.1"
    port: int = 8787
    url: str = ""
    api_key: str = ""
    spool: str = ""
    organization: str = ""
    table_store: Literal["rocksdb", "memory"] = "rocksdb"
    topic_prefix: str = ""
    default_markup: str = "1.0"
    default_timezone: str = "UTC"
    unknown_organizations: Literal["create", "reject"] = "create"
    processed_generations: bool = True
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    batch_records_max: int = 4000
    batch_bytes_max: int = 8_388_608
    views_batch_records_max: int = 10_000
    append_records_max: int = 100_000
    append_bytes_max: int = 67_108_864
    append_timeout_s: float = 10.0
    body_bytes_max: int = 10_485_760
    unpacked_bytes_max: int = 33_554_432
    items_max: int = 10_000
    request_timeout_s: float = 30.0
    requests_max: int = 256
    bodies_bytes_max: int = 268_435_456
    connections_max: int = 512
    keepalive_timeout_s: float = 75.0
    rate_per_s: float = 1000.0
    rate_burst: int = 2000
    webhook_secrets: str = ""
    webhook_tolerance_s: float = 300.0
    litellm_organization: Literal["organization", "team", "team_alias", "organization_alias", "key_alias"] = (
        "team"
    )
    cloudevents_mapping: str = ""
    background_sync_interval_s: float = 600.0
    sync_max: int = 1000
    sync_overlap_s: float = 3600.0
    sync_days: int = 30
    sync_timeout_s: float = 900.0
    provider_url: str = "https://openrouter.ai/api/v1"
    provider_list: str = ""
    provider_id_prefix: str = "gen-"
    provider_timeout_s: float = 30.0
    provider_tries_max: int = 5
    provider_rate_per_s: float = 10.0
    influxdb_first_enabled: bool | None = None
    influxdb_first_mode: bool | None = None
    influxdb_url: str = ""
    influxdb_token: str = ""
    influxdb_org: str = ""
    influxdb_bucket: str = ""
    influxdb_use_cloud: bool = False
    influxdb_cloud_url: str = ""
    influxdb_cloud_token: str = ""
    influxdb_cloud_org: str = ""
    influxdb_cloud_bucket: str = ""
    influxdb_write_timeout_ms: int = 2000
    influxdb_batch_size: int = 100
    influxdb_aggregation_batch_size: int = 5
    influxdb_dedup: Literal["time", "tag"] = "time"
    influxdb_version: Literal["auto", "1", "2", "3"] = "auto"
    points: bool = True
    points_linger_s: float = 0.25
    points_url: str = "http://127.0.0.1:9105"
    reconcile_at: str = ""
    reconcile_days: int = 2
    cleanup_enabled: bool = True
    cleanup_retention_days: int = 90
    cleanup_at: str = "00:05"
    cleanup_share: float = 0.25
    usage_kept_days: int | None = None
    explain_timeout_s: float = 20.0
    stall_timeout_s: float = 60.0
    drain_timeout_s: float = 20.0
    verify_bytes_max: int = 268_435_456
    verify_records_max: int = 100_000
    wal_alarm_bytes: int = 268_435_456
    prove_at: str = ""
    partitions: int | None = None
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None
    views_url: str = "http://127.0.0.1:9103"
    advertised_url: str = ""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_username: str = ""
    kafka_password: str = ""
    kafka_cafile: str = ""
    kafka_certfile: str = ""
    kafka_keyfile: str = ""
    kafka_session_timeout_s: float = 8.0
    kafka_max_poll_interval_s: float = 300.0
    kafka_request_timeout_s: float = 10.0
    kafka_transaction_timeout_s: float = 30.0
    origin: dict[str, str] = {}

    def __repr__(self) -> str:
        """Without the secrets: settings come by in tracebacks."""
        return f"Settings(broker={self.broker!r}, topic_prefix={self.topic_prefix!r}, data={self.data!r})"


TABLE = (
    Setting("data", "GENLEDGER_DATA", "where logs, views and tables are kept"),
    Setting("broker", "GENLEDGER_BROKER", "the log: sqlite:///<data>/log unless given"),
    Setting("host", "GENLEDGER_HOST", "the address to listen on; loopback is open without keys"),
    Setting("port", "GENLEDGER_PORT", "the port to listen on"),
    Setting("url", "GENLEDGER_URL", "where commands find the service: http://<host>:<port> unless given"),
    Setting("api_key", "GENLEDGER_KEY", "the API key that commands show the service", secret=True),
    Setting(
        "spool",
        "GENLEDGER_SPOOL",
        "where streams.integrations keep what is not yet sent; in memory if empty. Not the service's",
    ),
    Setting(
        "organization",
        "GENLEDGER_ORGANIZATION",
        "whose events streams.integrations record, where the payload is not to say. Not the service's",
    ),
    Setting("table_store", "GENLEDGER_TABLE_STORE", "where known ids are kept: rocksdb on disk, or memory"),
    Setting("topic_prefix", "GENLEDGER_TOPIC_PREFIX", "lets installations share a cluster"),
    Setting("default_markup", "GENLEDGER_DEFAULT_MARKUP", "for organisations without a markup of their own"),
    Setting("default_timezone", "GENLEDGER_DEFAULT_TIMEZONE", "for organisations without a timezone"),
    Setting("unknown_organizations", "GENLEDGER_UNKNOWN_ORGANIZATIONS", "create on first sight, or reject"),
    Setting("processed_generations", "GENLEDGER_PROCESSED_GENERATIONS", "keep a row for each generation id"),
    Setting("log_level", "LOG_LEVEL", "how much is logged"),
    Setting(
        "batch_records_max", "GENLEDGER_BATCH_RECORDS_MAX", "records a role takes at once: bounds memory"
    ),
    Setting("batch_bytes_max", "GENLEDGER_BATCH_BYTES_MAX", "bytes a role takes at once: bounds memory"),
    Setting(
        "views_batch_records_max",
        "GENLEDGER_VIEWS_BATCH_RECORDS_MAX",
        "records the views take at once, when so many wait: bounds memory",
    ),
    Setting("append_records_max", "GENLEDGER_APPEND_RECORDS_MAX", "records waiting for the log; then 503"),
    Setting("append_bytes_max", "GENLEDGER_APPEND_BYTES_MAX", "bytes waiting for the log; then 503"),
    Setting(
        "append_timeout_s", "GENLEDGER_APPEND_TIMEOUT_S", "how long a request waits for the log; then 503"
    ),
    Setting("body_bytes_max", "GENLEDGER_BODY_BYTES_MAX", "a request's body as sent; then 413"),
    Setting("unpacked_bytes_max", "GENLEDGER_UNPACKED_BYTES_MAX", "a request's body unpacked; then 413"),
    Setting("items_max", "GENLEDGER_ITEMS_MAX", "events in one request; then 413"),
    Setting(
        "request_timeout_s", "GENLEDGER_REQUEST_TIMEOUT_S", "how long a body may take to arrive; then 408"
    ),
    Setting("requests_max", "GENLEDGER_REQUESTS_MAX", "requests with a body in work at once; then 503"),
    Setting(
        "bodies_bytes_max", "GENLEDGER_BODIES_BYTES_MAX", "bytes of all bodies in work at once; then 503"
    ),
    Setting("connections_max", "GENLEDGER_CONNECTIONS_MAX", "open connections; one more is closed at once"),
    Setting("keepalive_timeout_s", "GENLEDGER_KEEPALIVE_TIMEOUT_S", "how long an idle connection is kept"),
    Setting("rate_per_s", "GENLEDGER_RATE_PER_S", "requests a second of one key or secret; then 429"),
    Setting("rate_burst", "GENLEDGER_RATE_BURST", "requests that one key may make at once after a pause"),
    Setting(
        "webhook_secrets",
        "GENLEDGER_WEBHOOK_SECRETS",
        "one a line, or parted by `;`: source, organisation (* for all), secret. Two of one organisation:"
        " a rotation; better a file: GENLEDGER_WEBHOOK_SECRETS_FILE",
        secret=True,
    ),
    Setting(
        "webhook_tolerance_s",
        "GENLEDGER_WEBHOOK_TOLERANCE_S",
        "how old, or how far ahead, a signature's time may be; then 401",
    ),
    Setting(
        "litellm_organization",
        "GENLEDGER_LITELLM_ORGANIZATION",
        "where LiteLLM's bodies name the organisation, for callers that have none of their own: organization,"
        " team, team_alias, organization_alias or key_alias",
    ),
    Setting(
        "cloudevents_mapping",
        "GENLEDGER_CLOUDEVENTS_MAPPING",
        "where CloudEvents have an event's fields, as `organization=subject model=data.model`; what is not"
        " named is looked for in data under its own name",
    ),
    Setting(
        "background_sync_interval_s",
        "BACKGROUND_SYNC_INTERVAL",
        "seconds between two runs of the sync, for organisations with a provider key",
    ),
    Setting("sync_max", "GENLEDGER_SYNC_MAX", "generations the sync fetches in one run; the next goes on"),
    Setting(
        "sync_overlap_s", "GENLEDGER_SYNC_OVERLAP_S", "how much of the list is read again, for late ones"
    ),
    Setting("sync_days", "GENLEDGER_SYNC_DAYS", "how many days back the provider is asked for an id"),
    Setting(
        "sync_timeout_s",
        "GENLEDGER_SYNC_TIMEOUT_S",
        "how long one organisation's run may take; what it has found is published, the next goes on",
    ),
    Setting("provider_url", "GENLEDGER_PROVIDER_URL", "the provider's API, as OpenRouter's"),
    Setting(
        "provider_list",
        "GENLEDGER_PROVIDER_LIST",
        "the provider's route that lists generations, such as /generations; OpenRouter has none",
    ),
    Setting(
        "provider_id_prefix",
        "GENLEDGER_PROVIDER_ID_PREFIX",
        "how the provider's ids begin: others are never asked for",
    ),
    Setting("provider_timeout_s", "GENLEDGER_PROVIDER_TIMEOUT_S", "how long the provider may take to answer"),
    Setting(
        "provider_tries_max",
        "GENLEDGER_PROVIDER_TRIES_MAX",
        "how often one request is tried that the provider may answer later; then the run ends",
    ),
    Setting(
        "provider_rate_per_s", "GENLEDGER_PROVIDER_RATE_PER_S", "requests a second to the provider, at most"
    ),
    Setting(
        "influxdb_first_enabled",
        "INFLUXDB_FIRST_ENABLED",
        "raw points go to InfluxDB, and only there; false: legacy mode, they go to SQLite. True if"
        " INFLUXDB_URL is set",
    ),
    Setting("influxdb_first_mode", "INFLUXDB_FIRST_MODE", "the same by its other name; both must agree"),
    Setting("influxdb_url", "INFLUXDB_URL", "where InfluxDB is, such as http://127.0.0.1:8086"),
    Setting("influxdb_token", "INFLUXDB_TOKEN", "its token; user:password for 1.8", secret=True),
    Setting("influxdb_org", "INFLUXDB_ORG", "its organisation; none for 1.8 and 3"),
    Setting("influxdb_bucket", "INFLUXDB_BUCKET", "its bucket; the database for 1.8 and 3"),
    Setting("influxdb_use_cloud", "INFLUXDB_USE_CLOUD", "the four settings of the cloud instead of those"),
    Setting("influxdb_cloud_url", "INFLUXDB_CLOUD_URL", "where InfluxDB Cloud is"),
    Setting("influxdb_cloud_token", "INFLUXDB_CLOUD_TOKEN", "its token", secret=True),
    Setting("influxdb_cloud_org", "INFLUXDB_CLOUD_ORG", "its organisation"),
    Setting("influxdb_cloud_bucket", "INFLUXDB_CLOUD_BUCKET", "its bucket"),
    Setting(
        "influxdb_write_timeout_ms",
        "INFLUXDB_WRITE_TIMEOUT",
        "milliseconds that one write may take; less than the session of a worker",
    ),
    Setting(
        "influxdb_batch_size",
        "INFLUXDB_BATCH_SIZE",
        "points that are worth a write of their own when traffic trickles; up to 5,000 when they queue",
    ),
    Setting(
        "influxdb_aggregation_batch_size",
        "INFLUXDB_AGGREGATION_BATCH_SIZE",
        "days that are read from InfluxDB at once",
    ),
    Setting(
        "influxdb_dedup",
        "INFLUXDB_DEDUP",
        "time: a point is its tags and nanosecond; tag: also its request_id, a series for each call",
    ),
    Setting(
        "influxdb_version",
        "GENLEDGER_INFLUXDB_VERSION",
        "1, 2 or 3, for a server that does not say which it is",
    ),
    Setting("points", "GENLEDGER_POINTS", "keep raw points in SQLite while they don't go to InfluxDB"),
    Setting(
        "points_linger_s",
        "GENLEDGER_POINTS_LINGER_S",
        "how long fewer points than INFLUXDB_BATCH_SIZE wait for more",
    ),
    Setting("points_url", "GENLEDGER_POINTS_URL", "where the doors find the points worker"),
    Setting(
        "reconcile_at",
        "GENLEDGER_RECONCILE_AT",
        "when to reconcile the views with InfluxDB each night, UTC, as 03:30; never if empty",
    ),
    Setting("reconcile_days", "GENLEDGER_RECONCILE_DAYS", "how many days back that looks"),
    Setting("cleanup_enabled", "CLEANUP_ENABLED", "forget old ids each night; totals and facts stay"),
    Setting(
        "cleanup_retention_days",
        "CLEANUP_RETENTION_DAYS",
        "how many days an id is remembered; at least 7. What is older when it first comes is not counted",
    ),
    Setting("cleanup_at", "GENLEDGER_CLEANUP_AT", "when to forget, UTC; a missed night runs at start"),
    Setting(
        "cleanup_share",
        "GENLEDGER_CLEANUP_SHARE",
        "the share of a ledger's time that forgetting may take, more than 0, at most 1",
    ),
    Setting(
        "usage_kept_days",
        "GENLEDGER_USAGE_KEPT_DAYS",
        "facts older than this may go behind a snapshot; at least CLEANUP_RETENTION_DAYS + 30. For ever"
        " if not given",
    ),
    Setting("explain_timeout_s", "GENLEDGER_EXPLAIN_TIMEOUT_S", "how long one id's history is searched for"),
    Setting(
        "stall_timeout_s", "GENLEDGER_STALL_TIMEOUT_S", "lag without movement for so long ends the process"
    ),
    Setting(
        "drain_timeout_s", "GENLEDGER_DRAIN_TIMEOUT_S", "how long a stop may take to finish what is begun"
    ),
    Setting(
        "verify_bytes_max", "GENLEDGER_VERIFY_BYTES_MAX", "log files up to this size are checked at start"
    ),
    Setting("verify_records_max", "GENLEDGER_VERIFY_RECORDS_MAX", "newest records checked at start"),
    Setting(
        "wal_alarm_bytes", "GENLEDGER_WAL_ALARM_BYTES", "a view's write-ahead log of this size is an alarm"
    ),
    Setting(
        "prove_at", "GENLEDGER_PROVE_AT", "when to prove the views each night, UTC, as 02:30; never if empty"
    ),
    Setting(
        "partitions", "GENLEDGER_PARTITIONS", "of the topics, when they are made: 12 on Kafka, 4 embedded"
    ),
    Setting("metrics_host", "GENLEDGER_METRICS_HOST", "where a role's metrics and probes listen"),
    Setting(
        "metrics_port",
        "GENLEDGER_METRICS_PORT",
        "the port of a role's metrics and probes: gateway 9101, ledger 9102, summaries 9103, jobs 9104,"
        " points 9105",
    ),
    Setting("views_url", "GENLEDGER_VIEWS_URL", "where the doors find the summaries worker"),
    Setting(
        "advertised_url",
        "GENLEDGER_ADVERTISED_URL",
        "where the doors find a ledger worker: http://<metrics host>:<metrics port> unless given",
    ),
    Setting(
        "kafka_security_protocol",
        "GENLEDGER_KAFKA_SECURITY_PROTOCOL",
        "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL",
    ),
    Setting(
        "kafka_sasl_mechanism",
        "GENLEDGER_KAFKA_SASL_MECHANISM",
        "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
    ),
    Setting("kafka_username", "GENLEDGER_KAFKA_USERNAME", "who we are to the cluster"),
    Setting("kafka_password", "GENLEDGER_KAFKA_PASSWORD", "its password; better as a file", secret=True),
    Setting(
        "kafka_cafile", "GENLEDGER_KAFKA_CAFILE", "who vouches for the brokers; the system's unless given"
    ),
    Setting("kafka_certfile", "GENLEDGER_KAFKA_CERTFILE", "our certificate, where the cluster asks for one"),
    Setting("kafka_keyfile", "GENLEDGER_KAFKA_KEYFILE", "its key"),
    Setting(
        "kafka_session_timeout_s",
        "GENLEDGER_KAFKA_SESSION_TIMEOUT_S",
        "a ledger worker not heard of for so long loses its partitions; at most 10",
    ),
    Setting(
        "kafka_max_poll_interval_s",
        "GENLEDGER_KAFKA_MAX_POLL_INTERVAL_S",
        "a ledger worker that has asked for nothing for so long loses its partitions",
    ),
    Setting(
        "kafka_request_timeout_s",
        "GENLEDGER_KAFKA_REQUEST_TIMEOUT_S",
        "how long a broker may take to answer",
    ),
    Setting(
        "kafka_transaction_timeout_s",
        "GENLEDGER_KAFKA_TRANSACTION_TIMEOUT_S",
        "how long a transaction may stay open before the broker ends it",
    ),
)

_BY_ENV = {setting.env: setting for setting in TABLE}


def load(environ: Mapping[str, str], file: Path | None = None, **overrides: Any) -> Settings:
    """Overrides (command-line options), then the environment, then the file, then defaults."""
    values: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for env, value in _from_file(file).items():
        values[_BY_ENV[env].name], origin[_BY_ENV[env].name] = value, str(file)
    for env, value in _from_environment(environ).items():
        path = environ.get(f"{env}_FILE", "") if env not in environ else ""
        values[_BY_ENV[env].name] = value
        origin[_BY_ENV[env].name] = f"{FILE_ORIGIN}{path}" if path else "environment"
    for name, value in overrides.items():
        if value is not None:
            values[name], origin[name] = value, "command line"
    return checked(_converted(values), origin)


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for env, value in environ.items():
        plain = env.removesuffix("_FILE")
        if env in _BY_ENV:
            if value or not env.startswith("INFLUXDB_"):  # those come from compose files of old, as `""`
                found[env] = value
        elif plain in _BY_ENV and _BY_ENV[plain].secret:
            found[plain] = _read_secret(env, value)
        elif env.startswith("GENLEDGER_"):
            raise SettingError(f"{env} is not a setting: see `genledger config show` for those there are")
    return found


def _read_secret(env: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise SettingError(f"{env}: {path} can't be read: {error.strerror}") from None


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None or not file.exists():
        return {}
    try:
        found = tomllib.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise SettingError(f"{file} is not valid TOML: {error}") from None
    for env in found:
        if env not in _BY_ENV:
            raise SettingError(f"{env} in {file} is not a setting: see `genledger config show`")
    return found


def _converted(values: dict[str, Any]) -> Settings:
    # A TOML file may write 1.3 where text is meant: the number's own text is what it says.
    plain = {k: str(v) if isinstance(v, float) and k == "default_markup" else v for k, v in values.items()}
    try:
        return msgspec.convert(plain, Settings, strict=False)
    except msgspec.ValidationError as error:
        name = str(error).rpartition("$.")[2].strip("`")
        env = next((s.env for s in TABLE if s.name == name), name)
        raise SettingError(f"{env}: {str(error).partition(' - at')[0]}") from None


def checked(settings: Settings, origin: dict[str, str]) -> Settings:
    """Settings that agree with each other, the broker filled in; `SettingError` names the one to mend."""
    try:
        money.rate_of(settings.default_markup)
    except ValueError as error:
        raise SettingError(f"GENLEDGER_DEFAULT_MARKUP {error}") from None
    try:
        times.zone_of(settings.default_timezone)
    except ValueError as error:
        raise SettingError(f"GENLEDGER_DEFAULT_TIMEZONE {error}") from None
    for setting in TABLE:
        value = getattr(settings, setting.name)
        # Not `<= 0`: "nan" is a number that is neither.
        if isinstance(value, int | float) and not isinstance(value, bool) and not value > 0:
            raise SettingError(f"{setting.env} must be more than 0")
    # The ledger writes up to three records for one: a queue that no batch passes would stop it for good.
    if settings.append_records_max < 4 * settings.batch_records_max:
        raise SettingError(
            "GENLEDGER_APPEND_RECORDS_MAX must be at least 4 times GENLEDGER_BATCH_RECORDS_MAX"
        )
    if settings.append_bytes_max < 4 * settings.batch_bytes_max:
        raise SettingError("GENLEDGER_APPEND_BYTES_MAX must be at least 4 times GENLEDGER_BATCH_BYTES_MAX")
    if settings.port > 65_535:
        raise SettingError("GENLEDGER_PORT must be at most 65535")
    _check_cleanup(settings)
    times_of_day = (
        ("PROVE", settings.prove_at),
        ("RECONCILE", settings.reconcile_at),
        ("CLEANUP", settings.cleanup_at),
    )
    for env, at in times_of_day:
        if at and _TIME_OF_DAY.fullmatch(at) is None:
            raise SettingError(f"GENLEDGER_{env}_AT must be a time of day such as 02:30, not {at}")
    _check_provider(settings)
    _check_influxdb(settings)
    _check_kafka(settings)
    broker = settings.broker or f"sqlite:///{settings.data}/log"
    if not broker.startswith(("sqlite:///", "kafka://")):
        raise SettingError("GENLEDGER_BROKER must be sqlite:///DIRECTORY or kafka://HOST:PORT[,HOST:PORT]")
    return msgspec.structs.replace(settings, broker=broker, origin=origin)


def _check_cleanup(settings: Settings) -> None:
    """What retention can't be."""
    if settings.cleanup_retention_days < RETENTION_DAYS_MIN:
        raise SettingError(
            f"CLEANUP_RETENTION_DAYS must be at least {RETENTION_DAYS_MIN}: sources may be that late"
        )
    if settings.cleanup_retention_days > RETENTION_DAYS_MAX:
        raise SettingError(
            f"CLEANUP_RETENTION_DAYS must be at most {RETENTION_DAYS_MAX}: with CLEANUP_ENABLED=false ids are"
            " kept for ever"
        )
    if settings.cleanup_share > 1:
        raise SettingError("GENLEDGER_CLEANUP_SHARE must be at most 1")
    least = settings.cleanup_retention_days + USAGE_KEPT_BEYOND_DAYS
    if settings.usage_kept_days is not None and settings.usage_kept_days < least:
        raise SettingError(
            f"GENLEDGER_USAGE_KEPT_DAYS must be at least {least}: CLEANUP_RETENTION_DAYS and"
            f" {USAGE_KEPT_BEYOND_DAYS} more"
        )
    most = RETENTION_DAYS_MAX + USAGE_KEPT_BEYOND_DAYS
    if settings.usage_kept_days is not None and settings.usage_kept_days > most:
        raise SettingError(
            f"GENLEDGER_USAGE_KEPT_DAYS must be at most {most}: leave it out to keep them for ever"
        )


def _check_provider(settings: Settings) -> None:
    """Without a scheme every request would fail, and only the sync's report would say so."""
    if not settings.provider_url.lower().startswith(("https://", "http://")):
        raise SettingError(
            "GENLEDGER_PROVIDER_URL must begin with https:// or http://, such as"
            f" https://openrouter.ai/api/v1, not '{settings.provider_url}'"
        )


def influxdb_first(settings: Settings) -> bool:
    """Whether raw points go to InfluxDB: as it is said, else if there is an InfluxDB. Pure."""
    said = (settings.influxdb_first_enabled, settings.influxdb_first_mode)
    chosen = next((one for one in said if one is not None), None)
    return bool(settings.influxdb_url or settings.influxdb_use_cloud) if chosen is None else chosen


def points_kept(settings: Settings) -> PointsKept:
    """Where raw points are kept: in SQLite only in legacy mode, and there only if they are wanted. Pure."""
    if influxdb_first(settings):
        return "influxdb"
    return "sqlite" if settings.points else "nowhere"


def _check_influxdb(settings: Settings) -> None:
    """What must agree among the settings for InfluxDB."""
    said = {settings.influxdb_first_enabled, settings.influxdb_first_mode} - {None}
    if len(said) > 1:
        raise SettingError("INFLUXDB_FIRST_ENABLED and INFLUXDB_FIRST_MODE disagree: give one, or both alike")
    if settings.influxdb_batch_size > POINTS_MAX:
        raise SettingError(f"INFLUXDB_BATCH_SIZE must be at most {POINTS_MAX}")
    if not influxdb_first(settings):
        return
    if settings.influxdb_write_timeout_ms >= settings.kafka_session_timeout_s * 1000:
        raise SettingError(
            "INFLUXDB_WRITE_TIMEOUT must be less than GENLEDGER_KAFKA_SESSION_TIMEOUT_S, in milliseconds"
        )
    which = "cloud_" if settings.influxdb_use_cloud else ""
    for name in ("url", "bucket"):
        if not getattr(settings, f"influxdb_{which}{name}"):
            env = f"INFLUXDB_{which}{name}".upper()
            raise SettingError(f"{env} is missing: raw points are to go to InfluxDB")
    url = getattr(settings, f"influxdb_{which}url")
    if "@" in url:
        raise SettingError(
            f"INFLUXDB_{which}URL".upper() + " must hold no password, for it is shown: of 1.8 the token is"
            " user:password"
        )
    if not url.lower().startswith(("https://", "http://")):
        raise SettingError(
            f"INFLUXDB_{which}URL".upper() + " must begin with https:// or http://, such as"
            f" http://127.0.0.1:8086, not '{url}'"
        )


def _check_kafka(settings: Settings) -> None:
    """What must agree among the settings for a cluster."""
    if settings.metrics_port is not None and settings.metrics_port > 65_535:
        raise SettingError("GENLEDGER_METRICS_PORT must be at most 65535")
    if settings.kafka_session_timeout_s > SESSION_TIMEOUT_S_MAX:
        raise SettingError(
            f"GENLEDGER_KAFKA_SESSION_TIMEOUT_S must be at most {SESSION_TIMEOUT_S_MAX}: a killed worker's"
            " partitions rest for so long"
        )
    if settings.kafka_security_protocol.startswith("SASL") and not settings.kafka_username:
        raise SettingError("GENLEDGER_KAFKA_USERNAME is missing: the security protocol asks for one")
    if bool(settings.kafka_certfile) != bool(settings.kafka_keyfile):
        raise SettingError("GENLEDGER_KAFKA_CERTFILE and GENLEDGER_KAFKA_KEYFILE go together")
