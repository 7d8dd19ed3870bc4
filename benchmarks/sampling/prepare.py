"""Which prompts and which adapter do the contestants share? Made once by our engine, kept in `benchmarks/.cache`.

The adapter has rank 32 on every linear layer and a few updates behind it, so that it moves the model's tokens: one
with B = 0 would hide a contestant that leaves it out.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from benchmarks.sampling.job import (
    GROUP_PROMPT,
    GROUP_TOKENS,
    RAGGED_LONGEST,
    RAGGED_PROMPT,
    RAGGED_REQUESTS,
    RAGGED_SHORTEST,
    SEED,
    Job,
    Request,
)

from crucible.adapters.assets import fetch, resolve_model
from crucible.adapters.tokenizer import HfTokenizer, HfTokenizerStore
from crucible.adapters.torch import TorchBackend
from crucible.engine.export import export_peft
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.training_client import AdamParams, SessionConfig

UPDATES, ROWS, ROW_TOKENS = 3, 4, 64


def text_tokens(model: Path, count: int) -> list[int]:
    """So many tokens of English instructions and answers."""
    tokenizer = HfTokenizer.from_folder(model)
    tokens: list[int] = []
    for row in json.loads(fetch("alpaca_en_demo").read_text(encoding="utf-8")):
        tokens += tokenizer.encode(f"{row['instruction']}\n{row['output']}\n\n").ids
        if len(tokens) >= count:
            return tokens[:count]
    raise ValueError(f"the data set has {len(tokens)} tokens, not {count}")


def make_job(tokens: list[int]) -> Job:
    """The group's prompt, then the ragged requests, whose lengths are drawn once."""
    lengths = np.random.default_rng(SEED).integers(RAGGED_SHORTEST, RAGGED_LONGEST + 1, size=RAGGED_REQUESTS)
    starts = [GROUP_PROMPT + index * RAGGED_PROMPT for index in range(RAGGED_REQUESTS)]
    ragged = [
        Request(prompt=tokens[start : start + RAGGED_PROMPT], max_tokens=int(length))
        for start, length in zip(starts, lengths, strict=True)
    ]
    return Job(group=Request(prompt=tokens[:GROUP_PROMPT], max_tokens=GROUP_TOKENS), ragged=ragged)


def train_adapter(model: str, tokens: list[int], *, into: Path) -> Path:
    """The folder of a checkpoint with an adapter that has seen a few rows."""
    backend = TorchBackend(
        checkpoint_dir=into,
        resolve_model=resolve_model,
        tokenizers=HfTokenizerStore(resolve_model=resolve_model),
        threads=1,
    )
    client = backend.training_client
    session = client.start_session(SessionConfig(model=model, lora_rank=32, seed=SEED)).result()
    rows = [tokens[start : start + ROW_TOKENS + 1] for start in range(0, ROWS * ROW_TOKENS, ROW_TOKENS)]
    weights = TensorData(np.full(ROW_TOKENS, 1 / (ROWS * ROW_TOKENS), dtype=np.float32))
    datums = [
        Datum(ModelInput.from_ints(row[:-1]), {"target_tokens": TensorData(row[1:]), "weights": weights})
        for row in rows
    ]
    for _ in range(UPDATES):
        client.forward_backward(session, datums, logprobs="weighted")
        client.optim_step(session, AdamParams(learning_rate=1e-3)).result()
    saved = client.save_weights_for_sampler(session, "adapter").result()
    backend.close()
    return Path(saved.path)


def main() -> None:
    """Write `job.json`, `adapter.txt` (the checkpoint's folder) and `peft/` into the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    folder = resolve_model(args.model)
    tokens = text_tokens(folder, GROUP_PROMPT + RAGGED_REQUESTS * RAGGED_PROMPT)
    checkpoint = train_adapter(args.model, tokens, into=args.out / "checkpoints")
    export_peft(checkpoint, args.out / "peft", model_folder=folder)
    make_job(tokens).write(args.out / "job.json")
    print(json.dumps({"model": str(folder), "adapter": str(checkpoint)}), flush=True)


if __name__ == "__main__":
    main()
