"""What a person sees: the explorer in a notebook, pictures, and the static report."""
