"""A corpus: examples read from a file, a list or a data set, checked row by row."""

from .example import Corpus, Example, Message, Prompt
from .load import Columns, load_corpus

__all__ = ["Columns", "Corpus", "Example", "Message", "Prompt", "load_corpus"]
