"""The experiments, one function per claim.

An experiment takes a `Request`, trains or simulates, and returns the `Evidence`. It raises `NotRun` if it has none.
"""
