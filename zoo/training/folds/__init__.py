"""Cross-validation: a run for each fold, one after the other, and what they come to together."""
