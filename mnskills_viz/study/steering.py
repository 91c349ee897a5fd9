"""Axes of a study tried on the model: proxy and steering."""

from collections.abc import Sequence

import pandas as pd

from ..corpus import Prompt
from ..generation import generate
from ..steering.proxy import first_order, fitted_layer
from ..steering.vector import SteeringVector
from .bases import StudyBases
from .kept import as_text, key_of
from .rows import PROXY_EXAMPLES


class StudySteering(StudyBases):
    """The part of a study that pushes the model along its axes."""

    def proxy(
        self, basis: str, n: int = PROXY_EXAMPLES, seed: int = 0, progress: bool = True
    ) -> pd.DataFrame:
        """First-order utility of every axis; see `mnskills_viz.proxy`. Kept under ``results``."""

        def compute() -> pd.DataFrame:
            fitted = self.basis(basis)
            found = self.gradients(n, progress)
            return first_order(found, {fitted_layer(fitted, None): fitted}, seed)

        return self._result("proxy", basis, compute, {"n": n, "seed": seed})

    def steer(
        self,
        prompts: Sequence[Prompt],
        basis: str,
        axis: int,
        dose: float,
        max_new_tokens: int = 64,
        progress: bool = False,
    ) -> pd.DataFrame:
        """Generate with and without a push along an axis, side by side.

        Returns
        -------
        DataFrame
            ``axis dose max_new_tokens key prompt unsteered steered``, a row a prompt; ``key`` is
            a hash of the prompt. All runs are kept in ``results/steering-BASIS.parquet``, and
            what is there is not generated again.
        """
        vector = SteeringVector.from_axis(self.basis(basis), axis, dose=dose)
        run = {"axis": axis, "dose": float(dose), "max_new_tokens": max_new_tokens}
        asked = pd.DataFrame(
            [run | {"key": key_of(prompt), "prompt": as_text(prompt)} for prompt in prompts]
        )
        kept = self.results("steering", basis)
        if kept is not None:
            found = asked.merge(kept, how="left", on=list(asked.columns))
            if not found["steered"].isna().any():
                return found
        chats = [self._as_chat(prompt) for prompt in prompts]
        for name, steering in (("unsteered", None), ("steered", vector)):
            texts = generate(self.model, chats, steering, 1, max_new_tokens, progress=progress)
            asked[name] = [completions[0] for completions in texts]
        everything = pd.concat([kept, asked]).drop_duplicates([*run, "key"], keep="last")
        self._write_result("steering", basis, everything)
        return asked

    def _as_chat(self, prompt: Prompt) -> Prompt:
        if isinstance(prompt, str) and self.model.tokenizer.chat_template is not None:
            return [{"role": "user", "content": prompt}]
        return prompt
