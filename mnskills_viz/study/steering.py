"""Axes of a study tried on the model: proxy and steering."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from tqdm.auto import tqdm

from ..bases.basis import Basis
from ..bases.pca import PCABasis
from ..corpus import Prompt
from ..errors import InputError
from ..files import write_bytes
from ..generation import generate
from ..steering.concat import concat_vector
from ..steering.doses import verify_best
from ..steering.inputs import positive_doses, require_list
from ..steering.proxy import (
    first_order,
    fitted_layer,
    proxy,
    share_of_gradient,
)
from ..steering.vector import SteeringVector
from .bases import StudyBases
from .kept import as_json, as_parquet, as_text, key_of, read_table
from .rows import PROXY_EXAMPLES, Layer

Method = Literal["first-order", "dose", "pass@k"]

DOSES_TRIED = (0.5, 2.0)
CALIBRATION_TEXTS = 16


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
        doses: Sequence[float] = DOSES_TRIED,
        axes: Sequence[int] | None = None,
        samples: int = 8,
        **options: Any,
    ) -> pd.DataFrame:
        """Utility of axes, measured on `n` probe examples; see `mnskills_viz.proxy`.

        Kept under ``results``: ``proxy-BASIS`` (first order), ``doses-BASIS``, ``sampled-BASIS``
        (pass@k; not with a verifier of one's own). What was measured before is not measured
        again, and what was stopped goes on.

        Parameters
        ----------
        basis : str
        n, seed, progress
        method : {"first-order", "dose", "pass@k"}
        doses : sequence of float
            For ``"dose"`` and ``"pass@k"``.
        axes : sequence of int, optional
            Which to measure, default all; the first order is of all.
        samples : int
            Answers to each example, for ``"pass@k"``.
        **options
            ``k temperature max_new_tokens verifier n_random``, for ``"pass@k"``.
        """
        fitted, examples = self.basis(basis), self._gradient_examples(n, "probe")
        if method != "pass@k" and options:
            raise InputError(f'{", ".join(options)}: only method="pass@k" samples answers')
        if method == "first-order":
            if axes is not None:
                raise InputError('axes= goes with method="dose" or "pass@k"; leave it out')

            def compute() -> pd.DataFrame:
                found = self.gradients(n, progress)
                return first_order(found, {fitted_layer(fitted, None): fitted}, seed)

            return self._result("proxy", basis, compute, {"n": n, "seed": seed})
        sizes = positive_doses(doses)
        wanted = list(range(fitted.n_axes_)) if axes is None else _axes(fitted, axes)
        made_by: dict[str, Any] = {"n": n, "seed": seed}
        store = self._measurements(basis)
        if method == "pass@k":
            options |= {"n": samples}
            made_by |= {"samples": samples} | options
            told = {name: made_by[name] for name in made_by if name not in ("k", "verifier")}
            key = key_of(as_json([fitted.fingerprint, told]))
            store = self.path / "results" / f"sampled-{basis}-{key}"

        def measure(missing: list[int]) -> pd.DataFrame:
            return proxy(
                self.model,
                fitted,
                examples,
                method=method,
                doses=sizes,
                axes=missing,
                seed=seed,
                store=store,
                progress=progress,
                **options,
            )

        if not isinstance(options.get("verifier", ""), str):
            return measure(wanted)
        kind = "doses" if method == "dose" else "sampled"
        return self._measured(kind, basis, wanted, sizes, made_by, measure)

    def _measured(
        self,
        kind: str,
        basis: str,
        axes: list[int],
        doses: list[float],
        made_by: dict[str, Any],
        measure: Callable[[list[int]], pd.DataFrame],
    ) -> pd.DataFrame:
        """Rows of axes and doses; those that are not kept yet are measured, and kept beside."""
        kept = self.results(kind, basis)
        if kept is None or kept.attrs.get("options") != as_json(made_by):
            kept = pd.DataFrame({"axis": [], "dose": []})
        there = set(zip(kept["axis"], kept["dose"], strict=True))
        if missing := [a for a in axes if not there.issuperset((a, dose) for dose in doses)]:
            new = measure(missing)
            kept = pd.concat([kept, new]) if len(kept) else new
            kept = kept.drop_duplicates(["axis", "dose"])
            kept = kept.sort_values(["axis", "dose"], ignore_index=True)
            kept.attrs["options"] = as_json(made_by)
            self._write_result(kind, basis, kept)
        asked = kept[kept["axis"].isin(axes) & kept["dose"].isin(doses)]
        return asked.reset_index(drop=True)

    def best_doses(
        self,
        basis: str,
        top: int = 8,
        n: int = PROXY_EXAMPLES,
        seed: int = 0,
        progress: bool = True,
        *,
        doses: Sequence[float] = DOSES_TRIED,
    ) -> pd.DataFrame:
        """The best dose of the best axes: chosen on half of `n` probe examples, tried on the rest.

        See `mnskills_viz.steering.doses.verify_best`. Kept in ``results/best-BASIS.parquet``.
        """
        fitted = self.basis(basis)
        sizes = positive_doses(doses)

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
            ``results/layers-proxy.parquet``.
        """
        file = self.path / "results" / "layers-proxy.parquet"
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
        SteeringVector.require_axis(self.basis(basis), axis, dose)
        require_prompts(prompts)
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
        now = self.results("steering", basis)  # another process may have kept runs meanwhile
        kept = kept if now is None else now
        everything = pd.concat([kept, asked]).drop_duplicates([*run, "key"], keep="last")
        if len(everything) > len(kept):
            self._write_result("steering", basis, everything)
        return asked

    def _as_chat(self, prompt: Prompt) -> Prompt:
        if isinstance(prompt, str) and self.model.tokenizer.chat_template is not None:
            return [{"role": "user", "content": prompt}]
        return prompt


def require_prompts(prompts: Sequence[Prompt]) -> None:
    """Refuse what is no list of prompts."""
    require_list(prompts, "prompts")
    for number, prompt in enumerate(prompts):
        if not isinstance(prompt, str | list):
            raise InputError(f"prompt {number} is neither text nor a list of messages: {prompt!r}")


def _axes(basis: Basis, axes: Sequence[int]) -> list[int]:
    """Axes of a basis, ascending, each once."""
    wanted = list(axes) if isinstance(axes, Iterable) else []
    if not wanted:
        raise InputError(f"axes must be a list of numbers of axes, such as [0, 3], not {axes!r}")
    for axis in wanted:
        SteeringVector.require_axis(basis, axis, 0.0)
    return sorted({int(axis) for axis in wanted})
