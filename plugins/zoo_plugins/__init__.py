"""First-party datasets, augmentations and backbones, behind the same entry points as everybody else's."""
