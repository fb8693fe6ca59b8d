"""Raw points in InfluxDB 1.8, 2, 3 or Cloud: the points' store where one is configured.

- `target.py`     which server, bucket and token, by the settings
- `line.py`       a point as a line of the protocol, and back from what a query says
- `server.py`     one server over HTTP: writes, deletions, questions, what its status codes mean
- `annotated.py`  the rows of its answers in Flux
- `writer.py`     lines until they are there: batches, retries, the circuit, the one bad point among many
- `positions.py`  how far the points have come, kept in the same bucket
- `reader.py`, `flux.py`, `sql.py`   points read back, in the language that the server speaks
"""
