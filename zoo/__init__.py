"""A plugin-based image-classification model zoo with edge export."""

import os

__all__ = ["__version__"]
__version__ = "0.1.0"

# Both libraries read these once, at their own import, and would otherwise contact the network. Every way into zoo
# passes through this file first, so this is the one place where they are set; a user's own setting is respected.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
