"""What a person sees of an axis: its examples and its labels."""
