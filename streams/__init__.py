"""The write side: an event comes in at the door and becomes a fact on the log.

In order, with the module that does it:

1. `gateway/`   takes an event over HTTP, checks it, and answers when the log has it
2. `log/`       keeps it: topics, offsets, transactions; Kafka or files, one interface
3. `agents.py`  hands each batch of the topic `generations` to the ledger
4. `ledger.py`  decides, once and for all, whether a record counts: one record, one fact
5. `seen.py`    is the ledger's table: what is known of each generation id

The facts on the topic `usage` are what the read side (`projections/`) is made from. This side never
imports that one.
"""
