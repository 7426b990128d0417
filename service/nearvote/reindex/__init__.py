"""A change of encoder while the service answers: vectors of another space are made beside those that serve."""
