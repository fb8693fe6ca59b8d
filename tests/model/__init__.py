"""An independent model of genledger: what every figure must be, by a second road.

It imports nothing of the project (import-linter says so) and shares no method with it: money by `decimal`,
days by `zoneinfo`, and where the service adds and takes away, the model sums up the winners at the end.

- `events.py`    the event as JSON has it, and the order of its versions
- `settings.py`  organisations and users, by effective date
- `ledger.py`    the records of a log, one by one: who wins, and when a row was touched
- `tables.py`    every table, column by column
- `traffic.py`   made-up traffic from a seed, with everything in it that goes wrong in the world
"""
