"""Run -> artifact: made, proven, and given its name only if the proof holds."""
