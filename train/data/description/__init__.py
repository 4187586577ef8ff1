"""``data describe``: what is in a data set, what leaks, and how a run sees it."""
