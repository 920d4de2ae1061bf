"""The three verdicts of a proof, as reports, pages and commands tell them."""

from __future__ import annotations

PROVEN = "proven"
"""The images bound the loss by what may be lost."""
UNPROVEN = "accepted, not proven"
"""The measured loss is within that, on images too few to tell."""
REFUSED = "refused"
"""Something that was measured is beyond its limit."""
