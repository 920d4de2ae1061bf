"""Run -> artifact: put to the proof, and given its name only if the proof holds."""
