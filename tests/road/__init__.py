"""The whole road: a real `genledger serve` on real files, fed over real HTTP, against the model.

- `harness.py`     starts, posts to, stops and kills the service
- `files.py`       reads its files, or another log, from outside: records, how far the views have come
- `fixtures.py`    the traffic that both logs' tests share
- `comparison.py`  every column of every table against the model; the digest between two logs
- `soak.py`        the full sizes of B and C, and the report in docs/soak-road.md
"""
