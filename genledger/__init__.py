"""The command `genledger`: what an operator types, and the one process that runs everything.

- `main.py`      the command line: which commands there are, and how errors become exit codes
- `commands/`    one file a verb
- `client.py`    asks the running service over HTTP
- `output.py`    prints data: tables, CSV, JSON, always with control characters made visible
- `publisher.py`, `lines.py`   `publish`: batches and retries; a resumable file of lines
- `offline.py`   the same door on the files, for a command, while no service runs
- `reference.py` the pages of docs/ that are made from the code
- `serve.py`     the service: the door, the ledger, and `views.py`, the views' process beside them
- `process.py`   what both processes have: start, look after, stop; `watch.py` says what is wrong

Exit codes: 0 done, 1 failed, 2 wrong use, 3 a check found a difference. Data goes to stdout, progress
and errors to stderr.
"""
