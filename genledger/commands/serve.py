"""`genledger serve`: everything at once, on local files or on a cluster.

What it starts is in `genledger/serve.py`; here are its options.
"""

from functools import partial
from typing import Annotated

from cyclopts import App, Parameter

from genledger.options import load

app = App(
    name="serve",
    help_prologue="""Examples:
  genledger serve
  genledger serve --data /var/lib/genledger --port 9000
""",
)


@app.default
def serve(
    *,
    data: Annotated[str | None, Parameter(help="Where logs, views and tables are kept.")] = None,
    host: Annotated[str | None, Parameter(help="The address to listen on.")] = None,
    port: Annotated[int | None, Parameter(help="The port to listen on.")] = None,
    without: Annotated[list[str] | None, Parameter(negative="", show=False)] = None,
) -> int:
    """Start the service: the door, the ledger and the views.

    The log is local files, or a Kafka cluster when GENLEDGER_BROKER names one.

    It stops on Ctrl-C or SIGTERM, within GENLEDGER_DRAIN_TIMEOUT_S. It ends by
    itself, with a message and exit code 1, when something stands still that
    should move.
    """
    from genledger import serve as service
    from genledger.process import run

    settings = load(data=data, host=host, port=port)
    left_out = tuple(without or ())
    service.check_without(left_out)
    return run(settings, partial(service.start, settings, left_out))
