"""Training: fit -> epoch -> step, the state that a resume needs, and the run around them."""
