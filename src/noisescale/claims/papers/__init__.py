"""The papers: each module lists the claims of one paper, a row per claim."""
