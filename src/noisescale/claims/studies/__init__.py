"""The sweeps that claims rest on, by subject. A study of one experiment may lie in its module."""
