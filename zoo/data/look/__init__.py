"""Pictures and counts of a dataset, for people to look at."""
