"""Searching training options: trials, each a run of its own, remembered in a database so that a search goes on."""
