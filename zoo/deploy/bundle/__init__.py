"""Artifact -> one archive that runs on a device without zoo."""
