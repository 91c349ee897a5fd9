"""The paper's comparison: whether a model's own axes choose better data than categories do."""
