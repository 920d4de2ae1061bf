"""For those who write plugins: a new package, the state of what is installed, the contract run against it."""
