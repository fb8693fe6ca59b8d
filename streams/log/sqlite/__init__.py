"""The log in local SQLite files: `log.py` is the backend, its docstring has the table of its parts.

`transport.py` is the side that Faust sees.
"""

from streams.log.sqlite.bounds import Bounds
from streams.log.sqlite.log import SqliteLog, open_log

__all__ = ["Bounds", "SqliteLog", "open_log"]
