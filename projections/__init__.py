"""The read side: views made from the facts on the topic `usage`, and nothing else.

Each view is one file of one shape: the question it answers, its version, its pure fold, its rows.

- `summaries.py`      daily, user and model summaries, live counters, the books
- `processed.py`      one row for each generation id
- `conflicts.py`      generation ids that two organisations have claimed
- `cleanup.py`        what each run of the retention job has done
- `points.py`         each call as a point in time
- `organizations.py`  the organisations and the user mapping, from their topics

`stores/` keeps rows and positions in one transaction; `agents.py` follows the log; `queries.py`, `raw.py`,
`api.py`, `report.py` and `books.py` answer questions; `schema.py` brings the tables to this version.
"""
