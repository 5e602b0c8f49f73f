"""The papers: each module lists the claims of one paper, one row per claim."""
