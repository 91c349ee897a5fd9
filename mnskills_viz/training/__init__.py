"""Supervised fine-tuning on an exported folder: TRL and PEFT, resumable to the bit."""
