"""The figures of a report, one per file. Each file has a function from a group's `Material` to a figure."""
