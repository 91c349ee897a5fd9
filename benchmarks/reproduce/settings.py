"""What a comparison is made of, and the three sizes it comes in."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from mnskills_viz import InputError

Scale = Literal["tiny", "small", "full"]

CONTROLS = ("none", "random")
EVERYWHERE = (
    *CONTROLS,
    "category",
    "weakest_categories",
    "text_diversity",
    "weakness_pca",
    "weakness_sae",
    "influence",
    "weakness_rotated",
    "weakness_subspace",
)
AT_FULL = (
    "autoskill",
    "proxy_axis",
    "pilot_axis",
    "weakness_active",
    "curriculum_quarters",
    "weakness_pca_quarters",
    "coverage",
    "weakness_pca_rows",
)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that is chosen before anything is run.

    Attributes
    ----------
    model : str
        As `load_model` takes it.
    pool, test : str
        As `load_corpus` takes them; ``"demo"`` for both means its splits.
    pool_rows, probe_rows, test_rows : int or None
        At most so many; None for all.
    warmup_rows : int
        Rows outside the pool that teach the answer format before any arm begins.
    budget : int
        Response tokens that each arm trains on.
    steps : int
        Optimizer steps in which each arm spends them, as nearly as whole batches allow.
    lora_rank, learning_rate : int, float
        Of the warm-up and of every arm.
    seeds : int
        Trainings of each arm.
    arms : tuple of str
    layer : int or None
        Where bases are fitted; None for the middle block.
    n_axes, n_latents, k : int
        Axes of each basis; latents and active latents of the dictionary.
    sampled, n, temperature, max_new_tokens : int, int, float, int
        Test problems whose answers are sampled, samples of each, and how they are drawn.
    steered : int
        Problems for steering, one half to choose on and one to report on.
    safety_rows : int
        Adversarial prompts for coverage, and at full for refusals.
    refusals : int
        Rows that refusals are learned from; 0 for none.
    """

    model: str
    pool: str
    test: str
    pool_rows: int | None
    probe_rows: int | None
    test_rows: int | None
    warmup_rows: int
    budget: int
    steps: int
    lora_rank: int
    learning_rate: float
    seeds: int
    arms: tuple[str, ...]
    layer: int | None
    n_axes: int
    n_latents: int
    k: int
    sampled: int
    n: int
    temperature: float
    max_new_tokens: int
    steered: int
    safety_rows: int
    refusals: int

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"arms": list(self.arms)}


SMALL = Settings(
    model="embedded",
    pool="demo",
    test="demo",
    pool_rows=3000,
    probe_rows=500,
    test_rows=500,
    warmup_rows=128,
    budget=9000,
    steps=16,
    lora_rank=16,
    learning_rate=1e-3,
    seeds=3,
    arms=EVERYWHERE,
    layer=None,
    n_axes=32,
    n_latents=2304,
    k=16,
    sampled=100,
    n=8,
    temperature=0.8,
    max_new_tokens=96,
    steered=120,
    safety_rows=1500,
    refusals=0,
)

SCALES: dict[Scale, Settings] = {
    # Random weights: nothing that comes out means anything, and everything has to come out.
    "tiny": replace(
        SMALL,
        model="tiny",
        pool_rows=120,
        probe_rows=40,
        test_rows=24,
        warmup_rows=8,
        budget=260,
        steps=2,
        lora_rank=4,
        seeds=2,
        arms=(*EVERYWHERE, *AT_FULL),
        layer=1,
        n_axes=6,
        n_latents=48,
        k=6,
        sampled=6,
        n=2,
        max_new_tokens=8,
        steered=8,
        safety_rows=120,
        refusals=8,
    ),
    "small": SMALL,
    "full": replace(
        SMALL,
        pool_rows=None,
        probe_rows=500,
        test_rows=None,
        budget=50_000,
        steps=64,
        seeds=5,
        arms=(*EVERYWHERE, *AT_FULL),
        sampled=500,
        max_new_tokens=512,
        steered=500,
        safety_rows=5000,
        refusals=128,
    ),
}


def settings_of(scale: str, **changes: Any) -> Settings:
    """The settings of a scale, with what is given otherwise (None: as it is).

    Raises
    ------
    InputError
        Unknown scale or arm, numbers that are too small, or arms without what they need.
    """
    if scale not in SCALES:
        raise InputError(f"SCALE must be {', '.join(get_args(Scale))}, not {scale!r}")
    known = {field.name for field in fields(Settings)}
    if odd := sorted(changes.keys() - known):
        raise InputError(f"no setting is called {odd[0]!r}; there are: {', '.join(sorted(known))}")
    given = {name: value for name, value in changes.items() if value is not None}
    found = replace(SCALES[scale], **given)
    if (found.pool == "demo") != (found.test == "demo"):
        raise InputError(
            f"pool {found.pool!r} and test {found.test!r} do not belong together; name both"
        )
    every = (*EVERYWHERE, *AT_FULL)
    if unknown := [arm for arm in found.arms if arm not in every]:
        raise InputError(f"no arm is called {unknown[0]!r}; there are: {', '.join(every)}")
    if missing := [arm for arm in CONTROLS if arm not in found.arms]:
        raise InputError(f"the arms must hold {missing[0]!r}: all others are compared with it")
    if found.seeds < 2:
        raise InputError(f"seeds must be at least 2, not {found.seeds}: one cannot tell its spread")
    return found
