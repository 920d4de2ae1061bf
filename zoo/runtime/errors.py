"""What the runtime raises on purpose; the text is one line that says what to do."""

from __future__ import annotations


class BundleError(ValueError):
    """A bundle or artifact that is not as it was made, or cannot be used here."""
