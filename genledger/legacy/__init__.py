"""The road from a legacy SQLite database, of the seeds' tables, onto the log.

| file          | responsibility                                                                  |
| ------------- | ------------------------------------------------------------------------------- |
| `exact.py`    | a REAL's dollars as nano-dollars, a day, a count: what a cell means. Pure         |
| `tables.py`   | the tables and their columns, under whatever names they have. Pure               |
| `entries.py`  | a row as an opening entry; an entry as what takes it back. Pure                  |
| `findings.py` | what is wrong, where, and how it is mended. Pure                                 |
| `source.py`   | the legacy file, read in one transaction, never written                         |
| `people.py`   | organisations and users that the service lacks                                  |
| `here.py`     | what the views hold: own figures, positions                                     |
| `backups.py`  | a migration's folder: the copy made first, the manifest, the lock               |
| `plan.py`     | the entries of one migration, in the order in which they are published          |
| `sending.py`  | entries onto the log in batches, and waiting for the views                      |
| `overlap.py`  | days that both systems counted                                                  |
| `comparing.py`| the legacy tables beside ours                                                   |
| `migration.py`| the whole: check, begin, go on, take back                                       |
| `asked.py`, `verbs.py` | what was typed; the four things that the command does                 |
"""
