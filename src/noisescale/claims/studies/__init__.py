"""The sweeps behind the claims, by subject. The study of a single experiment may be in its module."""
