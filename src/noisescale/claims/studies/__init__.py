"""The sweeps that claims rest on, by subject. A study of a single experiment may lie beside it instead."""
