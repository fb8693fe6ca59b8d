"""`genledger gateway`: the door before a Kafka cluster."""

from functools import partial
from typing import Annotated

from cyclopts import App, Parameter

from genledger.options import MetricsPort, load

app = App(
    name="gateway",
    help_prologue="""Examples:
  GENLEDGER_BROKER=kafka://one:9092,two:9092 genledger gateway
  genledger gateway --host 0.0.0.0 --port 8787 --metrics-port 9101
""",
)


@app.default
def gateway(
    *,
    host: Annotated[str | None, Parameter(help="The address to listen on.")] = None,
    port: Annotated[int | None, Parameter(help="The port to listen on.")] = None,
    metrics_port: MetricsPort = None,
) -> int:
    """Take events and answer questions, before the cluster that GENLEDGER_BROKER names.

    It keeps nothing: run as many as are needed. It stops on Ctrl-C or SIGTERM,
    within GENLEDGER_DRAIN_TIMEOUT_S.
    """
    from genledger.process import run
    from genledger.roles import gateway as role

    settings = load(host=host, port=port, metrics_port=metrics_port)
    return run(settings, partial(role.run, settings))
