"""Which examples to train on, and why these: strategies, weakness of poles, recipe and receipts.

Everything here takes arrays and gives arrays and tables; nothing here knows a model or a store.
"""

from .basket import pole_name
from .recipe import Selection
from .select import replay, select
from .weakness import pole_weakness, reference_errors

__all__ = ["Selection", "pole_name", "pole_weakness", "reference_errors", "replay", "select"]
