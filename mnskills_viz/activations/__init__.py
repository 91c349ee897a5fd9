"""From a corpus to rows: which tokens count, the trace, the store, the gradients."""
