"""Views made again from the log, beside the live ones: what replay and prove stand on.

    built = build(plan, Path("data/replay.db"), told)      # a file of its own; goes on where it was ended
    await swap(database, built, log)                       # replay: in the place of the live rows
    compare(connection, built)                             # prove: row by row, at the same positions

| module    | is                                                                          |
| --------- | --------------------------------------------------------------------------- |
| plan      | what is to be made: which views, from which topic, up to where              |
| courses   | one partition, read in order and folded                                     |
| decided   | `generations` decided anew, read as `usage` is                              |
| reader    | a process that reads some partitions, and sends what they change            |
| aside     | the file that it all goes into, with its positions                          |
| build     | the readers and the file together, from beginning to end                    |
| swap      | the rebuilt rows take the live ones' place, in one transaction              |
| compare   | which rows of two files differ                                              |
| blame     | which generations explain a row that differs                                |
"""
