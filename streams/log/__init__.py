"""The log: `interface.py` says what every backend does; each backend is a folder of its own.

`partition.py` places a key; `batches.py` and `changelog.py` are the two seams between a log and Faust
(delivery by batches, recovery by batches); `sqlite/` keeps the log in local files.
"""
