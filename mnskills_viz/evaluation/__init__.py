"""What the model gets right and wrong."""
