"""SQLite, InfluxDB and the log side by side: what is planted is found and named, and --fix restores."""
