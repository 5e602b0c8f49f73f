"""Faults that disturb a sweep from outside, one kind in each module, and what must hold after each."""
