"""Sparse autoencoders: rows per second, held-out FVU and directions found, against SAELens.

A planted dictionary (width 576, 1,152 unit directions of which 8 add up to a row) and, where
given, real activations; 2,304 latents, TopK, 1,024 rows a step (256 of few), the same rows and
number of epochs for all. The rivals get the best of `RATES` as their learning rate.

    python benchmarks/sae.py [ROWS.npy ...]
"""

import importlib.util
import sys
import time

import numpy as np
import torch

import mnskills_viz as mn
from mnskills_viz.bases import sparse_kernels as kernels

WIDTH, TRUE, ACTIVE = 576, 1152, 8
LATENTS, STEPS = 2304, 600
ROWS, HELD_OUT = 61_440, 4_096
RATES = (1e-3, 3e-3)
DL = importlib.util.find_spec("dictionary_learning") is not None


def planted(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    true = generator.standard_normal((TRUE, WIDTH))
    true /= np.linalg.norm(true, axis=1, keepdims=True)
    generator = np.random.default_rng(seed)
    rows = np.empty((n, WIDTH), dtype=np.float32)
    for start in range(0, n, 4096):
        size = min(4096, n - start)
        which = generator.random((size, TRUE)).argpartition(ACTIVE, axis=1)[:, :ACTIVE]
        codes = generator.uniform(0.5, 1.5, (size, ACTIVE))
        rows[start : start + size] = np.einsum("bk,bkd->bd", codes, true[which])
    return rows + 0.02 * generator.standard_normal(rows.shape).astype(np.float32), true


def batch_size(rows: np.ndarray) -> int:
    return 1024 if len(rows) > 20_000 else 256


def batches(rows: np.ndarray):
    """Shuffled epochs without end."""
    tensor, size = torch.from_numpy(rows), batch_size(rows)
    while True:
        for part in torch.randperm(len(rows)).split(size):
            if len(part) == size:
                yield tensor[part]


def sae_lens(rows: np.ndarray, k: int, steps: int, rate: float):
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(0)
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=rows.shape[1], d_sae=LATENTS, k=k))
    scale = 1 / float(np.linalg.norm(rows, axis=1).mean()) * rows.shape[1] ** 0.5
    size = batch_size(rows)
    config = SAETrainerConfig(
        total_training_samples=steps * size,
        train_batch_size_samples=size,
        lr=rate,
        lr_end=rate / 10,
        lr_decay_steps=steps // 2,
        dead_feature_window=max(10, len(rows) // size),
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = SAETrainer(config, sae, batches(rows * scale))
    start = time.perf_counter()
    sae = trainer.fit()
    seconds = time.perf_counter() - start

    def rebuilt(held_out: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return sae.decode(sae.encode(torch.from_numpy(held_out * scale))).numpy() / scale

    return seconds, rebuilt, sae.W_dec.detach().numpy()


def dictionary_learning(rows: np.ndarray, k: int, steps: int, rate: float):
    from dictionary_learning.trainers.top_k import TopKTrainer

    scale = 1 / float(np.sqrt(np.square(rows).sum(axis=1).mean()))
    trainer = TopKTrainer(
        steps=steps, activation_dim=rows.shape[1], dict_size=LATENTS, k=k, layer=0,
        lm_name="none", lr=rate, warmup_steps=10, decay_start=steps // 2, device="cpu", seed=0,
    )  # fmt: skip
    source = batches(rows * scale)
    start = time.perf_counter()
    for step in range(steps):
        trainer.update(step, next(source))
    seconds = time.perf_counter() - start

    def rebuilt(held_out: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return trainer.ae(torch.from_numpy(held_out * scale)).numpy() / scale

    return seconds, rebuilt, trainer.ae.decoder.weight.T.detach().numpy()


def ours(rows: np.ndarray, k: int, steps: int, variant: str):
    size = batch_size(rows)
    clock = []
    sae = mn.SparseAutoencoder(
        LATENTS, k, variant, max_epochs=round(steps * size / (0.9 * len(rows))), batch_size=size,
        patience=10**6,
    )  # fmt: skip
    start = time.perf_counter()
    sae.fit(rows, progress=lambda *told: clock.append((time.perf_counter() - start, told[2])))
    return time.perf_counter() - start, sae, clock


def fvu(held_out: np.ndarray, rebuilt: np.ndarray) -> float:
    return float(np.square(held_out - rebuilt).sum() / np.square(held_out - held_out.mean(0)).sum())


def found(directions: np.ndarray, true: np.ndarray | None) -> str:
    if true is None:
        return ""
    unit = directions / np.linalg.norm(directions, axis=1, keepdims=True)
    best = np.abs(true @ unit.T).max(axis=1)
    return f"  mean best |cosine| {best.mean():.3f}, above 0.9: {(best > 0.9).mean():.1%}"


def compare(name: str, rows: np.ndarray, held_out: np.ndarray, k: int, true) -> None:
    steps = min(STEPS, 50 * (len(rows) // batch_size(rows)))
    worked = steps * batch_size(rows)
    print(f"\n{name}: {len(rows):,} x {rows.shape[1]}, k = {k}, {steps} steps")
    rival, pace = np.inf, 0.0
    for label, train in (("SAELens", sae_lens), ("dictionary_learning", dictionary_learning)):
        if train is dictionary_learning and not DL:
            continue
        for rate in RATES:
            seconds, rebuilt, directions = train(rows, k, steps, rate)
            left = fvu(held_out, rebuilt(held_out))
            rival = min(rival, left)
            pace = max(pace, worked / seconds) if label == "SAELens" else pace
            print(
                f"  {label:20} rate {rate:g} {seconds:6.1f} s {worked / seconds:8,.0f} rows/s  "
                f"held-out FVU {left:.4f}{found(directions, true)}",
                flush=True,
            )
    for variant in ("topk", "batchtopk", "matryoshka"):
        seconds, sae, clock = ours(rows, k, steps, variant)
        worked = sae.n_iter_ * 0.9 * len(rows)
        left = fvu(held_out, sae.decode(sae.encode(held_out)))
        print(
            f"  ours, {variant:14}           {seconds:6.1f} s {worked / seconds:8,.0f} rows/s  "
            f"held-out FVU {left:.4f}{found(sae.components_, true)}  "
            f"({worked / seconds / pace:.1f} times SAELens)",
            flush=True,
        )
        if variant == "topk":
            reached = [second for second, told in clock if told["val_fvu"] <= rival]
            print(f"       the best rival's FVU after {reached[0] if reached else np.nan:.1f} s")


def best_of(work, runs: int = 9) -> float:
    """Milliseconds."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return 1e3 * min(times)


def products() -> None:
    """What is done with the active latents of a batch, by sparse and by dense products."""
    rows, decoder = torch.randn(1024, WIDTH), torch.randn(LATENTS, WIDTH)
    scores = torch.randn(1024, LATENTS)
    print("\nproducts of a batch of 1,024 in ms: sparse, dense float32, dense bfloat16")
    for k in (16, 64, 256):
        codes = kernels.top_of_each_row(scores, k)
        dense = torch.zeros_like(scores).scatter_(1, codes.latents.view(1024, k), 1.0)
        half, half_rows, half_decoder = dense.bfloat16(), rows.bfloat16(), decoder.bfloat16()
        for name, work in {
            "decode": (
                lambda codes=codes: kernels.decode(codes, decoder),
                lambda dense=dense: dense @ decoder,
                lambda half=half, by=half_decoder: half @ by,
            ),
            "to latents": (
                lambda codes=codes: kernels.sum_by_latent(codes, rows, LATENTS),
                lambda dense=dense: dense.T @ rows,
                lambda half=half, by=half_rows: half.T @ by,
            ),
            "values": (
                lambda codes=codes: kernels.products(codes, rows, decoder),
                lambda: rows @ decoder.T,
                lambda left=half_rows, right=half_decoder: left @ right.T,
            ),
        }.items():
            print(f"  k = {k:3} {name:12}" + "".join(f"{best_of(one):8.2f}" for one in work))


def main() -> None:
    products()
    rows, true = planted(ROWS, 1)
    compare("planted", rows, planted(HELD_OUT, 2)[0], ACTIVE, true)
    for file in sys.argv[1:]:
        real = np.load(file)
        real = real[np.random.default_rng(0).permutation(len(real))]
        cut = len(real) // 5
        compare(file, real[cut:], real[:cut], 16, None)


if __name__ == "__main__":
    main()
