"""Folders that trainers read: one writer a format, with card, recipe and manifest."""

from .export import FORMATS, export

__all__ = ["FORMATS", "export"]
