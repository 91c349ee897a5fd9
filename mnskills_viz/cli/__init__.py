"""One command a verb, thin: arguments in, a study's method called, what was found printed."""

from . import looking, training, viewing
from .app import app, main

__all__ = ["app", "looking", "main", "training", "viewing"]
