"""The machine under it: devices, processes, memory formats, and what is timed to choose among them."""
