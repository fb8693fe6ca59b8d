"""What the head of `usage` came to, on the log: so that facts beyond an age may go, and no figure with them.

    path = make(settings, days=120, live=Path("data/genledger.db"))     # the rows, packed into a file
    await publish(log, path)                                            # they are on `snapshots`
    check(settings, live, path)                                         # read back, rebuilt, compared
    await settle(log, path)                                             # the manifest; then facts are deleted

| module   | is                                                                             |
| -------- | ------------------------------------------------------------------------------ |
| chunks   | rows as bytes, some hundred in a record                                        |
| package  | the file in which a snapshot waits: its chunks and its manifest                |
| make     | up to where, and the views rebuilt to there                                    |
| publish  | the steps that write the log: each may be done again                           |
| check    | read back from the log, and rebuilt from there to where the live views stand   |
| load     | a snapshot's rows into a views' file                                           |
"""
