"""Every metric, in one place. Labels are from bounded sets: never an organisation, user, id or free text.

    RECORDS.labels("ledger", "counted").inc(40)
    print(exposition(""))

| metric                                          | says                                                |
| ----------------------------------------------- | --------------------------------------------------- |
| genledger_records_total{stage,fate}             | what became of each record, at each stage           |
| genledger_events_rejected_total{source,reason}  | events that were not taken, and why                 |
| genledger_applied_offset{projection,partition}  | the last offset of `usage` that a view holds        |
| genledger_lag_records{projection}               | records that a view has not taken yet               |
| genledger_end_to_end_seconds                    | from the event's arrival to its summary             |
| genledger_sink_write_seconds{sink}              | one write of a view                                 |
| genledger_sink_errors_total{sink,kind}          | writes that failed                                  |
| genledger_book_residue_records                  | records without a fate: 0 when the books balance    |
| genledger_jobs_leader                           | 1 in the jobs worker that leads                     |
| genledger_topic_differences                     | settings of topics that are not as they must be     |
| genledger_oldest_undecided_seconds              | how long the oldest record has waited for the ledger |
| genledger_views_wal_bytes                       | grows while a reader holds an old snapshot          |
| genledger_cleanup_last_success_timestamp_seconds | when a run of the retention job last ended well    |
| genledger_cleanup_last_failed                   | 1 when the newest run of it that ended has failed   |
| genledger_topic_records{topic}                  | records of each topic; on Kafka by its offsets      |
| genledger_topic_bytes{topic}                    | about their bytes, embedded only                    |
| genledger_log_file_bytes{store}                 | the embedded log's files, their free pages included |
| genledger_state_ids                             | about the ids that this process's ledger knows      |
| genledger_state_bytes                           | about the bytes that they take                      |
| genledger_table_bytes{table}                    | tables of the views' database, with their indexes   |
| genledger_compaction_removed_total              | records that compaction of the embedded log removed |
| genledger_compaction_last_timestamp_seconds     | when its last pass over `generations` ended         |
| genledger_prove_last_timestamp_seconds          | when the views were last compared with the log      |
| genledger_prove_differences                     | what that comparison found: 0 when the views hold   |
| genledger_sync_generations_total{result}        | generations that the sync has read back, by result  |
| genledger_sync_runs_total{result}               | runs of the sync, one an organisation               |
| genledger_sync_last_success_timestamp_seconds   | when a run of the sync last went well               |
| genledger_influx_circuit_state                  | 0 closed, 1 half-open, 2 open: points wait          |
| genledger_points_written_total                  | raw points that InfluxDB has taken                  |
| genledger_points_refused_total                  | raw points that it refused, kept on the log         |
| genledger_reconcile_last_timestamp_seconds      | when the views were last compared with InfluxDB     |
| genledger_reconcile_differences                 | what that comparison found: 0 when they agree       |
| genledger_trim_last_timestamp_seconds           | when old facts were last to go behind a snapshot    |
| genledger_trim_differences                      | 1 when that snapshot did not hold: nothing went     |
| genledger_webhook_secrets_stale                 | 1 while changed webhook secrets can't be used       |
| genledger_build_info{version,python}            | 1                                                   |
| genledger_http_requests_total{route,method,status} | requests, by the route's template                |
| genledger_http_request_seconds{route,method}    | how long they took                                  |
"""

import platform
from importlib import metadata

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, Info, disable_created_metrics
from prometheus_client.exposition import choose_encoder

OTHER = "other"
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

_SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LONG_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)

disable_created_metrics()  # type: ignore[no-untyped-call]

RECORDS = Counter("genledger_records", "What became of each record", ("stage", "fate"))
EVENTS_REJECTED = Counter("genledger_events_rejected", "Events that were not taken", ("source", "reason"))
APPLIED_OFFSET = Gauge(
    "genledger_applied_offset", "Last offset of usage that a view holds", ("projection", "partition")
)
LAG_RECORDS = Gauge("genledger_lag_records", "Records a view has not taken yet", ("projection",))
END_TO_END_SECONDS = Histogram(
    "genledger_end_to_end_seconds", "From an event's arrival to its summary", buckets=_LONG_S
)
SINK_WRITE_SECONDS = Histogram(
    "genledger_sink_write_seconds", "One write of a view", ("sink",), buckets=_SHORT_S
)
SINK_ERRORS = Counter("genledger_sink_errors", "Writes that failed", ("sink", "kind"))
BOOK_RESIDUE_RECORDS = Gauge("genledger_book_residue_records", "Records without a fate")
VIEWS_WAL_BYTES = Gauge("genledger_views_wal_bytes", "Size of the write-ahead log of the views' database")
JOBS_LEADER = Gauge("genledger_jobs_leader", "1 in the jobs worker that leads")
OLDEST_UNDECIDED_SECONDS = Gauge(
    "genledger_oldest_undecided_seconds", "How long the oldest record has waited for the ledger"
)
TOPIC_DIFFERENCES = Gauge("genledger_topic_differences", "Settings of topics that are not as they must be")
CLEANUP_LAST_SUCCESS = Gauge(
    "genledger_cleanup_last_success_timestamp_seconds", "When a run of the retention job last ended well"
)
CLEANUP_LAST_FAILED = Gauge(
    "genledger_cleanup_last_failed", "1 when the newest run of the retention job that ended has failed"
)
TOPIC_RECORDS = Gauge("genledger_topic_records", "Records of each topic", ("topic",))
TOPIC_BYTES = Gauge("genledger_topic_bytes", "About the bytes of each topic", ("topic",))
LOG_FILE_BYTES = Gauge("genledger_log_file_bytes", "Size of each file of the embedded log", ("store",))
STATE_IDS = Gauge("genledger_state_ids", "About the ids that this process's ledger knows")
STATE_BYTES = Gauge("genledger_state_bytes", "About the bytes that they take")
TABLE_BYTES = Gauge("genledger_table_bytes", "Tables of the views' database with their indexes", ("table",))
COMPACTION_REMOVED = Counter("genledger_compaction_removed", "Records that compaction has removed")
COMPACTION_LAST_TIMESTAMP = Gauge(
    "genledger_compaction_last_timestamp_seconds", "When the last pass over generations ended"
)
PROVE_LAST_TIMESTAMP = Gauge(
    "genledger_prove_last_timestamp_seconds", "When the views were last compared with the log"
)
PROVE_DIFFERENCES = Gauge("genledger_prove_differences", "Differences that the last comparison found")
TRIM_LAST_TIMESTAMP = Gauge(
    "genledger_trim_last_timestamp_seconds", "When old facts were last to go behind a snapshot"
)
TRIM_DIFFERENCES = Gauge("genledger_trim_differences", "1 when the last snapshot did not hold: nothing went")
SYNC_GENERATIONS = Counter(
    "genledger_sync_generations", "Generations that the sync has read back", ("result",)
)
SYNC_RUNS = Counter("genledger_sync_runs", "Runs of the sync, one an organisation", ("result",))
SYNC_LAST_SUCCESS = Gauge(
    "genledger_sync_last_success_timestamp_seconds", "When a run of the sync last went well"
)
INFLUX_CIRCUIT_STATE = Gauge(
    "genledger_influx_circuit_state", "0: points go to InfluxDB; 1: one is tried; 2: they wait"
)
POINTS_WRITTEN = Counter("genledger_points_written", "Raw points that InfluxDB has taken")
POINTS_REFUSED = Counter("genledger_points_refused", "Raw points that InfluxDB refused")
RECONCILE_LAST_TIMESTAMP = Gauge(
    "genledger_reconcile_last_timestamp_seconds", "When the views were last compared with InfluxDB"
)
RECONCILE_DIFFERENCES = Gauge(
    "genledger_reconcile_differences", "Differences that the last comparison with InfluxDB found"
)
WEBHOOK_SECRETS_STALE = Gauge(
    "genledger_webhook_secrets_stale", "1 while the changed file of webhook secrets can't be used"
)
BUILD_INFO = Info("genledger_build", "Which genledger this is")
HTTP_REQUESTS = Counter("genledger_http_requests", "HTTP requests", ("route", "method", "status"))
HTTP_REQUEST_SECONDS = Histogram(
    "genledger_http_request_seconds", "How long requests took", ("route", "method"), buckets=_SHORT_S
)


def version() -> str:
    """The installed version; 'unknown' in a tree that was never installed."""
    try:
        return metadata.version("genledger")
    except metadata.PackageNotFoundError:
        return "unknown"


BUILD_INFO.info({"version": version(), "python": platform.python_version()})


def observe_request(route: str, method: str, status: int, seconds: float) -> None:
    """Count one HTTP request. A method that HTTP does not know is `other`, as is a path of no route."""
    known = method if method in METHODS else OTHER
    HTTP_REQUESTS.labels(route, known, str(status)).inc()
    HTTP_REQUEST_SECONDS.labels(route, known).observe(seconds)


def exposition(accept: str) -> tuple[bytes, str]:
    """All metrics as Prometheus reads them, and their content type."""
    encoder, content_type = choose_encoder(accept)
    return encoder(REGISTRY), content_type
