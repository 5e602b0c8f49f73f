"""Exit codes that a command does not merely return: of an interrupt, and of a stop at a time limit."""

INTERRUPTED = 130
# Returned by a command that stopped at its time limit: the exit code of an interrupt, without its message.
PAUSED = -INTERRUPTED
