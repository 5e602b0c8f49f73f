"""The experiments: each takes a request, trains or simulates, and returns the evidence on one claim."""
