"""What do the tests of losses train on? Sequences with a prompt, a sampler's logprobs and advantages of both signs."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike
from tiny_models import VOCAB

from crucible.engine.lora import LoraAdapter
from crucible.engine.losses import LOSSES, loss_config
from crucible.engine.model import LoadedModel, adapter_for, load_model
from crucible.engine.rows import rows_of
from crucible.engine.scoring import Scores, scoring_steps
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.training_client import LogprobsWanted, SessionConfig


def with_inputs(example: Datum, **tensors: ArrayLike | None) -> Datum:
    """The datum with tensors replaced; None takes one away."""
    kept = {**{name: tensor.data for name, tensor in example.loss_fn_inputs.items()}, **tensors}
    return Datum(example.model_input, {name: TensorData(data) for name, data in kept.items() if data is not None})


def drawn_adapter(loaded: LoadedModel, **flags: bool) -> LoraAdapter:
    """An adapter whose B is drawn too, so that it does something."""
    adapter = adapter_for(loaded, SessionConfig(model="", lora_rank=4, lora_alpha=6.0, **flags))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for matrices in adapter.layers.values():
            matrices.b.normal_(std=0.1, generator=generator)
    return adapter


def relative(ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> float:
    """The L2 distance of two gradients over the second one's norm; where that is 0, the first one's norm."""
    a, b = (torch.cat([tensor.flatten() for tensor in tensors]).double() for tensors in (ours, theirs))
    return float((a - b).norm() / b.norm()) if b.any() else float(a.norm())


def drained(steps: Generator[None, None, Scores]) -> Scores:
    """What the steps return, one after the other."""
    while True:
        try:
            next(steps)
        except StopIteration as ended:
            return ended.value


@dataclass(frozen=True)
class Bench:
    """A tiny model in float32 with an adapter that does something."""

    loaded: LoadedModel = field(repr=False)  # hypothesis shows its arguments, and weights are long
    adapter: LoraAdapter = field(repr=False)

    @classmethod
    def of(cls, folder: Path, **flags: bool) -> "Bench":
        loaded = load_model(folder, dtype="float32", device=torch.device("cpu"))
        return cls(loaded, drawn_adapter(loaded, **flags))

    def score(
        self,
        examples: Sequence[Datum],
        loss_fn: str,
        *,
        wanted: LogprobsWanted = "all",
        token_budget: int = 40,
        **config: float,
    ) -> Scores:
        """Scores, with a backward."""
        loss, loaded = LOSSES[loss_fn], self.loaded
        steps = scoring_steps(
            loaded,
            self.adapter,
            rows_of(examples, loss, vocab_size=loaded.vocab_size, context_length=loaded.context_length),
            loss=loss,
            config=loss_config(loss_fn, config),
            wanted=wanted,
            backward=True,
            token_budget=token_budget,
        )
        return drained(steps)

    def examples(
        self, lengths: Sequence[int], loss_fn: str, *, targets: int | None = None, seed: int = 0, noise: float = 1.0
    ) -> list[Datum]:
        """Datums with every tensor that the loss reads, `targets` at a position.

        The first third is a prompt: logprob 0 and advantage 0. Of the rest every fifth has no advantage. The sampler's
        logprobs are the model's and normal noise: ratios beyond any clip at 1.0, and 1 at 0.0.
        """
        bare: list[Datum] = []
        for place, length in enumerate(lengths):
            draw = np.random.default_rng([seed, place, length])
            tokens = draw.integers(3, VOCAB, length + 1)
            at = tokens[1:] if targets is None else draw.integers(3, VOCAB, (length, targets))
            bare.append(Datum(ModelInput.from_ints(tokens[:-1].tolist()), {"target_tokens": TensorData(at)}))
        found: list[Datum] = []
        for place, (example, logprobs) in enumerate(zip(bare, self.score(bare, "cross_entropy").logprobs, strict=True)):
            draw, start = np.random.default_rng([seed, place]), len(logprobs) // 3
            completion = np.zeros(logprobs.shape)
            completion[start:] = 1
            advantages = draw.normal(size=logprobs.shape) * completion
            advantages[start + 1 :: 5] = 0
            given = {
                "weights": advantages,
                "advantages": advantages,
                "logprobs": (logprobs - draw.normal(size=logprobs.shape) * noise) * completion,
                "sequence_ratio_mask": completion,
            }
            found.append(with_inputs(example, **{name: given[name] for name in LOSSES[loss_fn].inputs}))
        return found
