"""Directions that are added to the residual stream, and what they do."""
