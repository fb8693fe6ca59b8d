"""`genledger serve`: everything in one process, on local files.

The process itself is built in `genledger/serve.py`; here are its options.
"""

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
    """Start the service: the door, the ledger and the views, on local files.

    It stops on Ctrl-C or SIGTERM, within GENLEDGER_DRAIN_TIMEOUT_S. It ends by
    itself, with a message and exit code 1, when something stands still that
    should move.
    """
    from genledger import serve as service

    settings = load(data=data, host=host, port=port)
    return service.run(settings, without=tuple(without or ()))
