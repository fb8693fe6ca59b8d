"""The roles as processes, and the parts that `genledger serve` shares with them.

| module    | role                                                                  |
| --------- | --------------------------------------------------------------------- |
| gateway   | the door; what other processes know, it asks them                     |
| ledger    | a ledger worker: up to one for each partition                         |
| summaries | the views: one process, by the lock on their database                 |
| jobs      | what one process at a time has to do: the leader                      |
| opening   | what every role begins with: the log, and who there is                |
| views     | the views as a part of a process                                      |
| cleanup   | the leader of the retention job: it begins the runs                   |
| books     | the look at the books that needs nobody to ask                        |
| door      | listening                                                             |
| lookout   | /metrics, /livez and /readyz of a role, on its own port               |
| upkeep    | what every process looks up again and again: ends, settings, keys     |
| tasks     | tasks whose end is the process's                                      |
| seats     | no more ledger workers than partitions                                |
"""
