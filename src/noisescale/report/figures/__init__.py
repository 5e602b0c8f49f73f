"""The figures of a report, one per file. Each is a function from a group's material to a matplotlib figure."""
