"""A dataset on disk, turned into seeded, exactly repeatable batches."""
