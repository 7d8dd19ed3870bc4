"""What does Crucible's embedded engine reach, through the same public port that recipes use?"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from benchmarks.sft_vs_trl.measure import (
    ADAM_BETAS,
    ADAM_EPS,
    BATCH_SIZE,
    GRAD_CLIP_NORM,
    LORA_ALPHA,
    LORA_RANK,
    WARM_UP_STEPS,
    Meter,
    contestant_arguments,
    measured_tokens,
)
from benchmarks.sft_vs_trl.rows import IGNORED, Row, read

from crucible.adapters.assets import resolve_model
from crucible.adapters.tokenizer import HfTokenizerStore
from crucible.adapters.torch import TorchBackend
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.training_client import AdamParams, SessionConfig, TrainingClient, TrainingSession


def build_datums(batch: Sequence[Row]) -> list[Datum]:
    """One datum per row; the weights sum to 1 over the batch, so that the summed loss is the mean per token."""
    trained = sum(row.trained_tokens for row in batch)
    datums: list[Datum] = []
    for row in batch:
        targets = np.asarray(row.input_ids[1:], dtype=np.int64)
        weights = (np.asarray(row.labels[1:]) != IGNORED).astype(np.float32) / trained
        inputs = {"target_tokens": TensorData(targets), "weights": TensorData(weights)}
        datums.append(Datum(ModelInput.from_ints(row.input_ids[:-1]), inputs))
    return datums


def train(
    client: TrainingClient,
    session: TrainingSession,
    batches: Sequence[Sequence[Row]],
    *,
    adam: AdamParams,
    meter: Meter,
) -> list[float]:
    """One update per batch. After the warm-up, batch n + 1 is submitted before batch n is awaited."""
    losses: list[float] = []
    in_flight = []
    for index, batch in enumerate(batches):
        in_flight.append(client.forward_backward(session, build_datums(batch), logprobs="weighted"))
        updated = client.optim_step(session, adam)
        if index == WARM_UP_STEPS - 1:
            updated.result()
            meter.start()
        while len(in_flight) > 1:
            losses.append(in_flight.pop(0).result().metrics["loss:sum"])
    losses.append(in_flight.pop().result().metrics["loss:sum"])
    updated.result()
    meter.stop()
    return losses


def main() -> None:
    """Train and print the JSON line."""
    parser = contestant_arguments(__doc__)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    rows = read(args.rows, (args.steps + WARM_UP_STEPS) * BATCH_SIZE)
    batches = [rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE)]
    adam = AdamParams(
        learning_rate=args.learning_rate,
        beta1=ADAM_BETAS[0],
        beta2=ADAM_BETAS[1],
        eps=ADAM_EPS,
        grad_clip_norm=GRAD_CLIP_NORM,
    )
    meter = Meter()
    with tempfile.TemporaryDirectory() as scratch:
        backend = TorchBackend(
            checkpoint_dir=Path(scratch),
            resolve_model=resolve_model,
            tokenizers=HfTokenizerStore(resolve_model=resolve_model),
            dtype=args.dtype,
            threads=args.threads,
        )
        client = backend.training_client
        config = SessionConfig(model=args.model, lora_rank=LORA_RANK, lora_alpha=LORA_ALPHA, seed=0)
        session = client.start_session(config).result()
        meter.loaded()
        losses = train(client, session, batches, adam=adam, meter=meter)
        client.close_session(session).result()
        backend.close()
    meter.report(
        name="ours",
        dtype=args.dtype,
        useful_tokens=measured_tokens(rows),
        losses=losses,
        threads=args.threads,
    )


if __name__ == "__main__":
    main()
