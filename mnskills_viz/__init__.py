"""Explore a language model's own skill axes."""
