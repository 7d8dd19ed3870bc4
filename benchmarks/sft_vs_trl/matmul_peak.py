"""How fast could this job go at all? The machine's matmul speed, and the tokens per second it allows.

A token costs 4 FLOPs per base parameter (2 forward, 2 for the input gradient; the base is frozen) and 6 per
LoRA parameter (2 more for its own gradient). Attention scores, norms and softmax are left out, so the bound
is generous; an engine that skips the output layer on prompt tokens does a little less work than counted.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

SIZE = 2048
"""Side of the square matmul: 16 MiB in fp32, out of any cache, long enough to hide the call."""
MODEL_ROWS = 256
"""Tokens per matmul at the model's own shapes: one average row of the data, rounded up."""


def speed(flops: float, call: Callable[[], object], *, seconds: float) -> float:
    """Best FLOPS of `call` over about `seconds`: the best run is the one least disturbed."""
    call()
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - began)
    return flops / best


def linear_shapes(config: dict[str, int]) -> list[tuple[int, int, int]]:
    """(in, out, count) of every linear layer of a llama-like model, the output layer last."""
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"]
    kv = hidden // heads * config["num_key_value_heads"]
    return [
        (hidden, hidden, 2 * layers),  # q, o
        (hidden, kv, 2 * layers),  # k, v
        (hidden, inner, 2 * layers),  # gate, up
        (inner, hidden, layers),  # down
        (hidden, config["vocab_size"], 1),
    ]


def main() -> None:
    """Measure and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], required=True)
    parser.add_argument("--lora-rank", type=int, default=32)
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)
    torch.manual_seed(0)
    a, b = torch.randn(SIZE, SIZE, dtype=dtype), torch.randn(SIZE, SIZE, dtype=dtype)
    peak = speed(2 * SIZE**3, lambda: a @ b, seconds=4.0)

    shapes = linear_shapes(json.loads((args.model / "config.json").read_text(encoding="utf-8")))
    base = sum(inputs * outputs * count for inputs, outputs, count in shapes)
    lora = sum(args.lora_rank * (inputs + outputs) * count for inputs, outputs, count in shapes[:-1])
    flops_per_token = 4 * base + 6 * lora
    seconds_per_row = 0.0
    for inputs, outputs, count in shapes:
        x, weight = torch.randn(MODEL_ROWS, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
        grad = torch.randn(MODEL_ROWS, outputs, dtype=dtype)
        flops = 2 * MODEL_ROWS * inputs * outputs
        forward = speed(flops, lambda x=x, weight=weight: x @ weight.T, seconds=0.5)
        backward = speed(flops, lambda grad=grad, weight=weight: grad @ weight, seconds=0.5)
        seconds_per_row += count * (flops / forward + flops / backward)
    line = {
        "name": "matmul_peak",
        "dtype": args.dtype,
        "gflops": peak / 1e9,
        "flops_per_token": flops_per_token,
        "bound_tokens_per_second": peak / flops_per_token,
        "model_shapes_gflops": 4 * base * MODEL_ROWS / seconds_per_row / 1e9,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        * (1 if sys.platform == "darwin" else 1024),
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
