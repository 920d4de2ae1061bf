"""The search for an int8 file: accurate on the user's images and faster than fp32, or none."""
