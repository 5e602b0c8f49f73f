"""One file a figure; each a function from the page's material to a matplotlib figure."""
