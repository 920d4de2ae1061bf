"""TorchScript files, run by torch."""
