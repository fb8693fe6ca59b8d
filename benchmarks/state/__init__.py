"""State: what the ledger keeps, and what is asked of the tables.

| module         | what it measures                                                                  |
| -------------- | --------------------------------------------------------------------------------- |
| `entries.py`   | nothing: it makes entries of the table "seen", quickly, as large as real ones     |
| `known_ids.py` | memory and look-ups at 1 and 10 million known ids, in memory and in RocksDB       |
| `served.py`    | the same of a whole `genledger serve`, and how long it takes to read them back    |
| `recovery.py`  | keys a second of a table read back from Kafka: ours, stock Faust's                |
| `queries.py`   | what the API asks, at a year of 20 organisations                                  |
| `child.py`     | nothing: it runs a measurement in a process of its own                            |
"""
