"""The trainers that there are a format for."""

from collections.abc import Mapping

from .axolotl import AXOLOTL
from .huggingface import HUGGING_FACE
from .llama_factory import LLAMA_FACTORY
from .openai import OPENAI
from .trainer import Trainer
from .trl import TRL

FORMATS: Mapping[str, Trainer] = {
    "trl": TRL,
    "openai": OPENAI,
    "axolotl": AXOLOTL,
    "llama-factory": LLAMA_FACTORY,
    "hf": HUGGING_FACE,
}
"""A format's name, and who reads it."""
