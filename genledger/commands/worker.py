"""`genledger worker`: one role of a cluster."""

from functools import partial
from typing import Annotated

from cyclopts import App, Parameter

from genledger.options import Data, MetricsPort, load

app = App(
    name="worker",
    help="""Run one role on the cluster that GENLEDGER_BROKER names.

    It stops on Ctrl-C or SIGTERM, within GENLEDGER_DRAIN_TIMEOUT_S, and ends by
    itself, with a message and exit code 1, when something stands still that
    should move: let a supervisor start it again.
    """,
    help_prologue="""Examples:
  genledger worker ledger --metrics-port 9102
  genledger worker summaries
  genledger worker points
  genledger worker jobs
""",
)


@app.command(
    help_prologue="""Examples:
  genledger worker ledger
  genledger worker ledger --metrics-port 9112 --standby
"""
)
def ledger(
    *,
    data: Data = None,
    metrics_port: MetricsPort = None,
    standby: Annotated[
        bool,
        Parameter(
            negative="", show_default=False, help="When others have every partition, wait until one goes."
        ),
    ] = False,
) -> int:
    """Decide events: as many workers as there are partitions, no more.

    Each keeps its table in a folder of its own under the data folder, so several
    may share one.
    """
    from genledger.process import run
    from genledger.roles import ledger as role

    settings = load(data=data, metrics_port=metrics_port)
    return run(settings, partial(role.run, settings, standby=standby))


@app.command(
    help_prologue="""Examples:
  genledger worker summaries --data /var/lib/genledger
"""
)
def summaries(*, data: Data = None, metrics_port: MetricsPort = None) -> int:
    """Keep the views, in genledger.db of the data folder: one process for each database.

    The read routes answer on its metrics port, and through every gateway.
    """
    from genledger.process import run
    from genledger.roles import summaries as role

    settings = load(data=data, metrics_port=metrics_port)
    return run(settings, partial(role.run, settings))


@app.command(
    help_prologue="""Examples:
  INFLUXDB_URL=http://influx:8086 INFLUXDB_BUCKET=b genledger worker points
"""
)
def points(*, metrics_port: MetricsPort = None) -> int:
    """Send raw points to InfluxDB: as many workers as there are partitions, no more.

    They keep nothing: where they go on from stands in the bucket. While InfluxDB
    is away they wait, and the log is the buffer.
    """
    from genledger.process import run
    from genledger.roles import points as role

    settings = load(metrics_port=metrics_port)
    return run(settings, partial(role.run, settings))


@app.command(
    help_prologue="""Examples:
  genledger worker jobs
"""
)
def jobs(*, metrics_port: MetricsPort = None) -> int:
    """Do what one process at a time has to do: of several, one is the leader."""
    from genledger.process import run
    from genledger.roles import jobs as role

    settings = load(metrics_port=metrics_port)
    return run(settings, partial(role.run, settings))
