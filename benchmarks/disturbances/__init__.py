"""Faults that disturb a sweep from outside, one kind per module, and the checks after each fault."""
