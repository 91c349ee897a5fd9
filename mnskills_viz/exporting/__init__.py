"""Folders that trainers read: a module a trainer, with card, recipe, receipts and manifest."""

from .export import export
from .preflight import preflight
from .trainers import FORMATS

__all__ = ["FORMATS", "export", "preflight"]
