"""How good a model is: probabilities of a split, metrics, the report."""
