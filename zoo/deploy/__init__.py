"""An artifact on a device, behind HTTP, and what comes back from there."""
