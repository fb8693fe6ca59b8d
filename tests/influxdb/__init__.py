"""Points in InfluxDB: against a real server (`real.py`), and against one that fails on demand (`fake.py`)."""
