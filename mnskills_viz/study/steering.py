"""Axes of a study tried on the model: proxy, doses, steering."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from tqdm.auto import tqdm

from ..bases.basis import Basis
from ..bases.pca import PCABasis
from ..corpus import Prompt
from ..files import read_json, write_bytes, write_json
from ..generation import generate
from ..steering.concat import concat_vector
from ..steering.doses import verify_best
from ..steering.proxy import first_order, fitted_layer, proxy, share_of_gradient
from ..steering.response import DOSES, NEUTRAL, Response, Trial, dose_grid, respond, response_table
from ..steering.vector import SteeringVector
from .bases import StudyBases
from .kept import as_parquet, as_text, key_of, read_table
from .rows import PROXY_EXAMPLES, Layer

Method = Literal["first-order", "dose", "pass@k"]

KINDS: dict[str, str] = {"first-order": "proxy", "dose": "doses", "pass@k": "sampled"}
"""Under which name the table of each method is kept."""

CALIBRATION_TEXTS = 16
RESPONSE_PROMPTS = 16


class StudySteering(StudyBases):
    """The part of a study that pushes the model along its axes."""

    def proxy(
        self,
        basis: str,
        n: int = PROXY_EXAMPLES,
        seed: int = 0,
        progress: bool = True,
        *,
        method: Method = "first-order",
        doses: Sequence[float] = (0.5, 2.0),
        axes: Sequence[int] | None = None,
        **options: Any,
    ) -> pd.DataFrame:
        """Utility of every axis, measured on `n` probe examples; see `mnskills_viz.proxy`.

        Kept under ``results``: ``proxy-BASIS`` (first order), ``doses-BASIS``, ``sampled-BASIS``
        (pass@k). What was stopped goes on.

        Parameters
        ----------
        basis : str
        n, seed, progress
        method : {"first-order", "dose", "pass@k"}
        doses : sequence of float
            For ``"dose"`` and ``"pass@k"``.
        axes : sequence of int, optional
            Which to measure; default all. The first order is known of all.
        **options
            Of the sampling, for ``"pass@k"``.
        """
        fitted = self.basis(basis)
        if method == "first-order":

            def compute() -> pd.DataFrame:
                found = self.gradients(n, progress)
                return first_order(found, {fitted_layer(fitted, None): fitted}, seed)

            return self._result("proxy", basis, compute, {"n": n, "seed": seed})
        asked = {"n": n, "seed": seed, "doses": [float(d) for d in doses], "axes": axes} | options
        kind = KINDS.get(method, method)

        def measure() -> pd.DataFrame:
            return proxy(
                self.model,
                fitted,
                self._gradient_examples(n, "probe"),
                method=method,
                doses=doses,
                axes=axes,
                seed=seed,
                store=(
                    self._measurements(basis)
                    if method == "dose"
                    else self.path / "results" / f"{kind}-{basis}"
                ),
                progress=progress,
                **options,
            )

        return self._result(kind, basis, measure, asked)

    def best_doses(
        self,
        basis: str,
        top: int = 8,
        n: int = PROXY_EXAMPLES,
        seed: int = 0,
        progress: bool = True,
        *,
        doses: Sequence[float] = (0.5, 2.0),
    ) -> pd.DataFrame:
        """The best dose of the best axes: chosen on half of `n` probe examples, tried on the rest.

        See `mnskills_viz.steering.doses.verify_best`. Kept in ``results/best-BASIS.parquet``.
        """
        fitted = self.basis(basis)
        sizes = [float(dose) for dose in doses]

        def verify() -> pd.DataFrame:
            return verify_best(
                self.model,
                fitted,
                self._gradient_examples(n, "probe"),
                top=top,
                doses=sizes,
                seed=seed,
                store=self._measurements(basis),
                progress=progress,
            )

        asked = {"top": top, "n": n, "seed": seed, "doses": sizes}
        return self._result("best", basis, verify, asked)

    def _measurements(self, basis: str) -> Path:
        """Where the effect of each vector is kept as soon as it is measured."""
        return self.path / "results" / f"doses-{basis}.jsonl"

    def proxy_layers(
        self, n_axes: int = 32, n: int = PROXY_EXAMPLES, seed: int = 0, progress: bool = True
    ) -> pd.DataFrame:
        """First-order utility of the principal axes of every collected layer, from one pass.

        Returns
        -------
        DataFrame
            As `mnskills_viz.proxy` gives it, all layers below each other; ``attrs["share"]``
            holds ``layer share random`` of `share_of_gradient`. Kept in
            ``results/proxy-layers.parquet``.
        """
        file = self.path / "results" / "proxy-layers.parquet"
        rows = self.activations.source_of_all
        key = key_of([rows, self._gradient_examples(n, "probe").hash, n_axes, seed])
        there = read_table(file)
        if there is not None and there.attrs.get("made_by") == key:
            return there
        found = self.gradients(n, progress)
        bases: dict[Layer, Basis] = {
            layer: PCABasis(n_axes).fit(
                self.activations.matrix(layer)[self.pool_rows],
                source=self.activations.source(layer),
            )
            for layer in tqdm(self.activations.layers, desc="axes", disable=not progress)
        }
        table = first_order(found, bases, seed)
        share = share_of_gradient(found, bases)
        table.attrs |= {"made_by": key, "share": share.to_dict("records")}
        write_bytes(file, as_parquet(table))
        return table

    def vector(self, basis: str, axis: int, dose: float = 1.0) -> SteeringVector:
        """The vector for a dose of an axis.

        For concatenated layers it is measured on some of the pool's texts at the first time, and
        kept under ``results``; see `concat_vector`.
        """
        fitted = self.basis(basis)
        if (fitted.source_ or {}).get("layer") != "concat":
            return SteeringVector.from_axis(fitted, axis, dose=dose)
        SteeringVector.require_axis(fitted, axis, dose)
        name = f"{fitted.fingerprint}-{axis}-{float(dose)}.safetensors"
        file = self.path / "results" / f"vectors-{basis}" / name
        if not file.exists():
            texts = self._gradient_examples(CALIBRATION_TEXTS, "pool")
            concat_vector(self.model, fitted, axis, dose, texts).export(file, "safetensors")
        return SteeringVector.load(file)

    def dose_response(
        self,
        basis: str,
        axis: int,
        doses: Sequence[float] = DOSES,
        prompts: Sequence[Prompt] | None = None,
        max_new_tokens: int = 48,
        progress: bool = True,
    ) -> pd.DataFrame:
        """What doses of an axis do to what the model writes; see `mnskills_viz.dose_response`.

        Every dose is kept as soon as it is there, under ``results``, and not measured again.

        Parameters
        ----------
        basis : str
        axis : int
        doses : sequence of float
            Standard deviations; 0 is always added.
        prompts : sequence of str or chat messages, optional
            Default: those of 16 probe examples.
        max_new_tokens : int
        progress : bool
        """
        fitted = self.basis(basis)
        SteeringVector.require_axis(fitted, axis, 0.0)
        if prompts is None:
            prompts = [e.prompt for e in self._gradient_examples(RESPONSE_PROMPTS, "probe")]
        made_by = {
            "basis": fitted.fingerprint,
            "prompts": key_of(list(prompts)),
            "neutral": key_of(NEUTRAL),
            "max_new_tokens": max_new_tokens,
        }
        file = self.path / "results" / f"response-{basis}-{axis}.json"
        found = _read_responses(file, made_by)
        wanted = dose_grid(doses)
        if missing := [dose for dose in wanted if dose not in found]:
            trial = Trial([self._as_chat(p) for p in prompts], max_new_tokens=max_new_tokens)
            for dose in tqdm(missing, desc="doses", unit="dose", disable=not progress):
                vector = self.vector(basis, axis, dose)
                found[dose] = respond(self.model, fitted, vector, trial)
                kept = {str(at): response.as_dict() for at, response in sorted(found.items())}
                write_json(file, {"made_by": made_by, "doses": kept})
        return response_table({dose: found[dose] for dose in wanted}, axis)

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
        run = {"axis": axis, "dose": float(dose), "max_new_tokens": max_new_tokens}
        asked = pd.DataFrame(
            [run | {"key": key_of(prompt), "prompt": as_text(prompt)} for prompt in prompts]
        )
        kept = self.results("steering", basis)
        if kept is None:
            kept = asked.head(0).assign(unsteered="", steered="")
        same_length = kept[kept["max_new_tokens"] == max_new_tokens]
        plain = dict(zip(same_length["key"], same_length["unsteered"], strict=True))
        this_run = same_length[(same_length["axis"] == axis) & (same_length["dose"] == dose)]
        pushed = dict(zip(this_run["key"], this_run["steered"], strict=True))
        for known, vector in ((plain, None), (pushed, self.vector(basis, axis, dose))):
            missing = [i for i, key in enumerate(asked["key"]) if key not in known]
            if missing:
                chats = [self._as_chat(prompts[i]) for i in missing]
                texts = generate(self.model, chats, vector, 1, max_new_tokens, progress=progress)
                known |= {asked["key"][i]: text for i, (text,) in zip(missing, texts, strict=True)}
        asked["unsteered"] = asked["key"].map(plain)
        asked["steered"] = asked["key"].map(pushed)
        everything = pd.concat([kept, asked]).drop_duplicates([*run, "key"], keep="last")
        if len(everything) > len(kept):
            self._write_result("steering", basis, everything)
        return asked

    def _as_chat(self, prompt: Prompt) -> Prompt:
        if isinstance(prompt, str) and self.model.tokenizer.chat_template is not None:
            return [{"role": "user", "content": prompt}]
        return prompt


def _read_responses(file: Path, made_by: dict[str, Any]) -> dict[float, Response]:
    """Doses that were measured with these prompts on this basis."""
    there = read_json(file) if file.exists() else {}
    if there.get("made_by") != made_by:
        return {}
    return {float(dose): Response.from_dict(found) for dose, found in there["doses"].items()}
