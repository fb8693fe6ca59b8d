"""The command `genledger`: what an operator types, and the one process that runs everything.

- `main.py`      the command line: which commands there are, and how errors become exit codes
- `commands/`    one file a verb
- `client.py`    asks the running service over HTTP
- `output.py`    prints data: tables, CSV, JSON, always with control characters made visible
- `serve.py`     builds the embedded process from the write side and the read side

Exit codes: 0 done, 1 failed, 2 wrong use, 3 a check found a difference. Data goes to stdout, progress
and errors to stderr.
"""
