"""Do the summaries, the points in InfluxDB and the log say the same? Where not, why, and what mends it.

    async with compared(settings, scope) as (report, desk): ...
    report.clean, report.counts                  # {"missing_point": 1}
    await mend(settings, desk)                   # from the log, never by hand

| module    | is                                                                                |
| --------- | --------------------------------------------------------------------------------- |
| desk      | the file in which the log's own rows, the points and the live rows lie together   |
| residue   | what differs, point by point and row by row, and by which cause                   |
| report    | what was found, as people and scripts get it                                      |
| run       | the whole comparison, while traffic goes on                                       |
| mend      | what the log says, written again                                                  |
| daybook   | one day's summaries, from InfluxDB alone or from the log alone                    |
"""
