"""Textures for edgezoo: a dataset, an augmentation and a backbone, each in a module of its own."""
