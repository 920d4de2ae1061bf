"""For those who write plugins: a new package from templates, and the contract run against it."""
