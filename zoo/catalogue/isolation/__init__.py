"""Faults of plugins, contained: read before they are imported, tried in a process of their own, undone in ours."""
