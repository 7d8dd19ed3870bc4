# pyright: standard
# (safetensors' and torch's functions are loosely typed)
"""What would a training workload cost on this machine? From the weights' shapes and a short matmul.

A token costs 4 FLOPs per weight of a linear layer in training (forward, and the gradient of the input; frozen
weights have no gradient of their own) and 2 in scoring; an adapter matrix costs 6. The head is paid for trained
positions alone. How much of the machine's matmul speed a whole step reaches was measured with SmolLM2-135M on two
threads of a server's CPU (docs/experiments.md); for other models and machines it is a guess of the right size.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from crucible.engine.lora import layer_kind
from crucible.engine.options import DTypeName, EngineOptions
from crucible.errors import ModelError
from crucible.ports.training_client import Estimate, SessionConfig, Workload

EFFICIENCY = {"float32": 0.60, "bfloat16": 0.37}
"""Share of a large square matmul's speed that a whole training step reaches: useful tokens a second over the bound
of `benchmarks.sft_vs_trl` (fp32 0.56 to 0.65 between runs, bf16 0.33 to 0.37). The rest is attention, elementwise
work, and matrices that are small."""

_PROBE = 1024
_WIDTH = {"float32": 4, "bfloat16": 2}  # bytes of one number
_PROCESS_BYTES = 600 * 2**20  # interpreter, torch and transformers
_ACTIVATIONS_PER_LAYER = 34  # values kept per token and layer for the backward pass, in units of the hidden size


def estimate(folder: Path, config: SessionConfig, workload: Workload, *, options: EngineOptions) -> Estimate:
    """The workload's time and memory on this machine.

    Raises:
        ModelError: if the folder's weights cannot be read.
    """
    shapes = _shapes(folder)
    size = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    wanted = {"attn": config.train_attn, "mlp": config.train_mlp, "unembed": config.train_unembed}
    linear = trainable = 0
    for name, (rows, columns) in ((n, s) for n, s in shapes.items() if len(s) == 2):
        kind = layer_kind(name.removesuffix(".weight"))
        if kind in ("attn", "mlp"):
            linear += rows * columns
        if kind is not None and wanted[kind]:
            trainable += config.lora_rank * (rows + columns)
    head = size["hidden_size"] * size["vocab_size"]
    flops = workload.trained_input_tokens * (4 * linear + 6 * trainable) + workload.loss_tokens * 4 * head
    flops += workload.scored_input_tokens * 2 * (linear + trainable)
    speed = matmul_speed(options.dtype, threads=options.threads) * EFFICIENCY[options.dtype]
    weights = weight_bytes(folder, dtype=options.dtype)
    activations = activation_bytes(folder, options=options, longest=workload.longest)
    adapter = 4 * trainable
    share = (
        f"{EFFICIENCY[options.dtype]:.0%} of this machine's matmul speed, the share that SmolLM2-135M was seen to reach"
    )
    return Estimate(
        seconds=flops / speed,
        memory_bytes=_PROCESS_BYTES + weights + activations + 4 * adapter,
        checkpoint_bytes=3 * adapter,
        trainable_parameters=trainable,
        basis=f"{flops / 1e12:.1f} TFLOP at {speed / 1e9:.0f} GFLOP/s, {share}",
    )


def weight_bytes(folder: Path, *, dtype: DTypeName) -> int:
    """Memory of a model's weights in this dtype.

    Raises:
        ModelError: if they cannot be read.
    """
    return _WIDTH[dtype] * sum(_count(shape) for shape in _shapes(folder).values())


def activation_bytes(folder: Path, *, options: EngineOptions, longest: int = 0) -> int:
    """Memory of what a micro-batch keeps for its backward pass; `longest`: tokens of a sequence that goes alone."""
    size = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    tokens = max(options.token_budget, longest)
    per_token = size.get("hidden_size", 0) * size.get("num_hidden_layers", 0) * _ACTIVATIONS_PER_LAYER
    return tokens * per_token * _WIDTH[options.dtype]


def matmul_speed(dtype: str, *, threads: int | None = None) -> float:
    """FLOP/s of a square matmul of this dtype on the CPU, the best of a few in about half a second."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        left, right = (torch.ones(_PROBE, _PROBE, dtype=getattr(torch, dtype)) for _ in range(2))
        best = float("inf")
        until = time.perf_counter() + 0.5
        while time.perf_counter() < until:
            start = time.perf_counter()
            torch.mm(left, right)
            best = min(best, time.perf_counter() - start)
    finally:
        torch.set_num_threads(before)
    return 2 * _PROBE**3 / best


def _shapes(folder: Path) -> Mapping[str, tuple[int, ...]]:
    """Name to shape of every weight, from the files' headers."""
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as weights:
                shapes |= {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118  (no mapping)
    except (OSError, SafetensorError) as error:
        raise ModelError.of(f"the weights cannot be read: {error}", where=str(folder)) from error
    if not shapes:
        raise ModelError.of("there are no safetensors weights", where=str(folder))
    return shapes


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
