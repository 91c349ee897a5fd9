"""Supervised fine-tuning with TRL and PEFT: LoRA on all linear layers, loss on the response."""

import contextlib
import importlib.metadata
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..activations.store import held
from ..adapters import CONFIG, INSTALL
from ..embedded import quiet
from ..errors import InputError
from ..files import folder_in_place, read_json, restore_folders, write_json, write_text
from ..models import ModelIdentity, context_length, identity, load_model, spec_of, torch_module
from .checks import require_end_marks, require_trainable
from .kept import (
    MAKER,
    RECORD,
    checkpoint_of,
    drop_other,
    earlier_record,
    is_done,
    read_record,
    remove_left_over,
    require_replaceable,
    warn_of_replacement,
    write_record,
)
from .rows import Order, Rows, read_rows

if TYPE_CHECKING:
    import pandas as pd
    from nnsight.modeling.transformers import TransformersModel

    from .trainer import ResumableTrainer

PACKAGES = (MAKER, "torch", "transformers", "trl", "peft")


@dataclass(frozen=True, slots=True)
class Options:
    """What of a training is chosen, beside model and rows; `sft` says what each means."""

    epochs: int
    lora_rank: int
    lora_alpha: int
    learning_rate: float
    batch_size: int
    order: Order
    seed: int


def sft(
    model: "str | TransformersModel",
    folder: str | Path,
    out: str | Path,
    epochs: int = 1,
    lora_rank: int = 16,
    seed: int = 0,
    *,
    learning_rate: float = 1e-3,
    batch_size: int = 16,
    max_length: int | None = None,
    order: Order | Literal["auto"] = "auto",
    save_every: float = 30.0,
    progress: bool = True,
) -> Path:
    """Train a LoRA adapter on an exported folder.

    The loss is on the response and the mark that ends it. Weights of the model stay frozen, those
    of the adapter are float32; products are in bfloat16 where the machine is fast at it. Rows are
    never cut, and what the chat template would change, refuse or leave without an end is refused
    before the training by `preflight`'s rules. Killed or interrupted, the same call goes on from
    the last checkpoint and ends with the same weights, to the bit; finished already, it returns at
    once.

    Parameters
    ----------
    model : str or TransformersModel
        A name as `load_model` takes it, or a model of `load_model`: it is loaded anew by its name,
        in its dtype and on its device, and is not changed.
    folder : path
        What ``export(..., format="trl")`` or ``"hf"`` wrote.
    out : path
        Folder of the adapter, for ``load_model(out)``; it appears when all is done. Until then
        the state lies beside it, in ``.NAME.checkpoint``. An adapter that other rows or options
        made is replaced, with a warning; files that no training wrote, or that were changed
        since, are not: they are named and nothing is done.
    epochs : int
    lora_rank : int
        Rank of every update; its scale is 2 (alpha is twice the rank).
    seed : int
        Of the adapter's first weights, of the order where rows are shuffled, and of dropout.
    learning_rate : float
        Of the first step; it falls linearly to 0.
    batch_size : int
        Rows an optimizer step.
    max_length : int, optional
        Most tokens in a row, template included; longer rows are refused by number. Default: what
        the model takes.
    order : {"auto", "sequential", "shuffled"}
        ``"auto"``: as the rows lie if the recipe's strategy is "weakness", whose order is a
        curriculum; shuffled in each epoch if it is another, or there is no recipe.
    save_every : float
        Seconds between checkpoints.
    progress : bool

    Returns
    -------
    Path
        `out`, with ``adapter_model.safetensors``, ``adapter_config.json``, ``README.md`` and
        ``training.json``: model, rows, options, versions, the loss at every step, and how many
        loss tokens and optimizer steps it took, so that arms can be compared at equal cost.

    Raises
    ------
    InputError
        A missing package, bad options, rows that are not of that format, too long, or would not
        be trained on as they read (the first is named), a chat template that writes no end mark,
        a model that cannot be trained, a loss that is no longer a number, a damaged checkpoint,
        or a folder that holds something else or cannot be written.
    KeyboardInterrupt
        After Ctrl-C: the step under way is done and kept first.
    """
    _require_numbers(epochs, lora_rank, seed, learning_rate, batch_size, max_length, save_every)
    if order not in ("auto", "sequential", "shuffled"):
        raise InputError(f'order must be "auto", "sequential" or "shuffled", not {order!r}')
    rows = read_rows(Path(folder))
    options = Options(
        epochs=epochs,
        lora_rank=lora_rank,
        lora_alpha=2 * lora_rank,
        learning_rate=float(learning_rate),
        batch_size=batch_size,
        order=rows.order if order == "auto" else order,
        seed=seed,
    )
    out = Path(out)
    target = out.resolve()  # through a link: the folder that it points to is replaced
    earlier_record(target)  # refuses other folders before a model is loaded
    _require_packages()
    loaded = _loaded(model)
    request = _request(identity(loaded), rows, options)
    with held(target):
        restore_folders(target.parent)
        earlier = earlier_record(target)
        if earlier is not None:
            if is_done(target, earlier, request):
                return out
            require_replaceable(target)
            warn_of_replacement(target, earlier, request)
        remove_left_over(target)
        checkpoint = checkpoint_of(target)
        drop_other(checkpoint, request)
        require_trainable(rows, loaded.tokenizer)
        with _trainer(loaded, rows, options, checkpoint, request, save_every, progress) as trainer:
            _require_room(trainer.lengths, max_length, context_length(loaded))
            require_end_marks(trainer.train_dataset["labels"], _ends(loaded), loaded.tokenizer)
            trainer.run()
            with folder_in_place(target) as building:
                _write(trainer, building, request, rows.manifest)
                require_replaceable(target)  # something may have come into it meanwhile
        shutil.rmtree(checkpoint)
    return out


def training_log(out: str | Path) -> "pd.DataFrame":
    """What happened at every optimizer step of a training.

    Parameters
    ----------
    out : path
        Folder of the adapter.

    Returns
    -------
    DataFrame
        ``step`` from 1; ``loss``, mean nats a response token of that step's rows before it;
        ``learning_rate`` of that step; ``tokens``, response tokens trained on until then, and
        ``seconds`` of training.

    Raises
    ------
    InputError
        No training is recorded there.
    """
    import pandas as pd

    steps = read_record(Path(out)).get("steps")
    if not isinstance(steps, list):
        raise InputError(f"{Path(out) / RECORD} holds no steps: it is not of a finished training")
    return pd.DataFrame(steps)


# --------------------------------------------------------------------------------- what is asked


def _require_numbers(
    epochs: int,
    lora_rank: int,
    seed: int,
    rate: float,
    batch_size: int,
    max_length: int | None,
    save_every: float,
) -> None:
    counts = {"epochs": epochs, "lora_rank": lora_rank, "batch_size": batch_size}
    if max_length is not None:
        counts["max_length"] = max_length
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InputError(f"{name} must be a whole number of at least 1, not {value!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise InputError(f"seed must be a whole number from 0 to 2**32 - 1, not {seed!r}")
    if not (_is_number(rate) and 0 < rate < 1):
        raise InputError(f"learning_rate must lie between 0 and 1, not {rate!r}")
    if not (_is_number(save_every) and save_every >= 0):
        raise InputError(f"save_every must be seconds, at least 0, not {save_every!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, Real)


def _require_packages() -> None:
    try:
        import peft  # noqa: F401
        import trl  # noqa: F401
    except ImportError as error:
        raise InputError(f"training needs TRL and PEFT; run: {INSTALL}") from error


def _loaded(model: "str | TransformersModel") -> "TransformersModel":
    if isinstance(model, str):
        loaded = load_model(model)
    else:
        spec = spec_of(model)
        if spec.dtype == "float16":
            raise InputError(
                f"{spec.name} is in float16, in which small gradients vanish; load it in bfloat16 "
                "or float32"
            )
        loaded = load_model(spec.name, spec.dtype, spec.device, spec.blocks)
    if loaded.tokenizer.eos_token is None:
        raise InputError(f"{identity(loaded).name}: the tokenizer has no end mark to be learned")
    return loaded


def _request(model: ModelIdentity, rows: Rows, options: Options) -> dict[str, Any]:
    """All that decides the weights, JSON-ready."""
    return {
        "model": model.as_dict(),
        "data": {"rows": len(rows), "sha256": rows.sha256},
        "options": asdict(options),
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
    }


def _ends(model: "TransformersModel") -> frozenset[int]:
    """Tokens that end a response: the tokenizer's, and those at which generation stops."""
    stops = torch_module(model).generation_config.eos_token_id
    more = stops if isinstance(stops, list) else [stops]
    return frozenset(end for end in (model.tokenizer.eos_token_id, *more) if end is not None)


def _require_room(lengths: list[int], max_length: int | None, context: int | None) -> None:
    limit = min((n for n in (max_length, context) if n is not None), default=None)
    long = [i for i, length in enumerate(lengths, 1) if limit is not None and length > limit]
    if long:
        named = ", ".join(f"row {i} of {lengths[i - 1]}" for i in long[:5])
        raise InputError(
            f"{len(long)} of {len(lengths)} rows are longer than {limit} tokens ({named}"
            f"{', ...' if len(long) > 5 else ''}) and none is cut; leave them out of the selection"
        )


# -------------------------------------------------------------------------------------- training


@contextlib.contextmanager
def _trainer(
    model: "TransformersModel",
    rows: Rows,
    options: Options,
    checkpoint: Path,
    request: dict[str, Any],
    save_every: float,
    progress: bool,
) -> Iterator["ResumableTrainer"]:
    """The trainer, its rows tokenized, in a process whose random states come back afterwards."""
    import torch
    from datasets import (
        Dataset,
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )
    from peft import LoraConfig
    from transformers import PrinterCallback
    from trl import SFTConfig

    from .trainer import ResumableTrainer, random_state_kept

    module = torch_module(model)
    on_cpu = module.device.type == "cpu"
    lora = LoraConfig(
        r=options.lora_rank,
        lora_alpha=options.lora_alpha,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(random_state_kept())
        stack.enter_context(quiet())
        stack.enter_context(warnings.catch_warnings())
        # TRL still says `gradient_checkpointing`, which transformers is about to rename.
        warnings.filterwarnings("ignore", category=FutureWarning)
        if not are_progress_bars_disabled():
            disable_progress_bars()
            stack.callback(enable_progress_bars)
        scratch = stack.enter_context(tempfile.TemporaryDirectory())
        arguments = SFTConfig(
            output_dir=scratch,
            num_train_epochs=options.epochs,
            per_device_train_batch_size=options.batch_size,
            learning_rate=options.learning_rate,
            lr_scheduler_type="linear",
            train_sampling_strategy="random" if options.order == "shuffled" else "sequential",
            seed=options.seed,
            data_seed=options.seed,
            completion_only_loss=True,
            max_length=None,
            bf16=module.dtype == torch.bfloat16,
            # On a GPU memory is scarce, on a CPU time is.
            gradient_checkpointing=not on_cpu,
            use_cpu=on_cpu,
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_strategy="no",  # the trainer's own clock says when
            report_to="none",
            disable_tqdm=True,
        )
        trainer = ResumableTrainer(
            model=module,
            args=arguments,
            train_dataset=Dataset.from_list(
                rows.for_trainer(chat=model.tokenizer.chat_template is not None)
            ),
            processing_class=model.tokenizer,
            peft_config=lora,
            checkpoint=checkpoint,
            request=request,
            save_every=save_every,
            progress=progress,
        )
        trainer.remove_callback(PrinterCallback)
        yield trainer


def _write(
    trainer: "ResumableTrainer",
    folder: Path,
    request: dict[str, Any],
    manifest: str | None,
) -> None:
    """Fill the folder of the adapter."""
    trainer.model.save_pretrained(folder, save_embedding_layers=False)
    config = read_json(folder / CONFIG)
    config["base_model_name_or_path"] = request["model"]["name"]  # PEFT puts the cache's folder
    # A set inside PEFT, whose order differs from process to process.
    config["target_modules"] = sorted(config["target_modules"])
    write_json(folder / CONFIG, config)
    steps = trainer.history
    data, options = request["data"], request["options"]
    name = request["model"]["name"]
    write_text(
        folder / "README.md",
        f"# LoRA adapter\n\n"
        f"Of rank {options['lora_rank']} for {name}, trained on {data['rows']:,} rows in "
        f"{len(steps):,} steps. {RECORD} says how.\n\n"
        '```python\nimport mnskills_viz as mn\n\nmodel = mn.load_model("FOLDER")\n```\n',
    )
    write_record(
        folder,
        request,
        manifest=manifest,
        rows=data["rows"],
        loss_tokens=steps[-1]["tokens"],
        optimizer_steps=len(steps),
        seconds=steps[-1]["seconds"],
        steps=steps,
    )
