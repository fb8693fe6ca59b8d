"""Where rows and positions are kept, in one transaction.

- `sqlite.py`         the one writing connection: positions, batches, what happens when the disk is full
- `lock.py`           one writing process a file
- `summaries.py`, `processed.py`, `organizations.py`, `conflicts.py`   each view's rows, as statements
"""
