"""What stands below `runs/NAME`, as values, and how a user names it."""
