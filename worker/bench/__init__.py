"""Measures a model on this very machine: the stages of its way from texts to kept vectors, the floor, what limits."""
