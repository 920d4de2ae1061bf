"""The learning itself: what a step computes, what an epoch measures, and everything that moves meanwhile."""
