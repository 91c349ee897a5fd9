"""Where tensors live, and which number format is fast there."""

from typing import TYPE_CHECKING

from .errors import InputError

if TYPE_CHECKING:
    import torch


def torch_device(name: str) -> "torch.device":
    """The device called `name`; ``"auto"`` is a GPU if there is one, else the CPU.

    Raises
    ------
    InputError
        No such device here.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"device {name!r} cannot be used here ({reason})") from error
    return device


def fast_dtype(device: "torch.device") -> "torch.dtype":
    """bfloat16 where `device` multiplies it itself; elsewhere it is slower than float32."""
    import torch

    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported()
    else:
        able = torch.cpu.get_capabilities()
        fast = device.type == "cpu" and bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return torch.bfloat16 if fast else torch.float32
