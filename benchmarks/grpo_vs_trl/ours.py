"""What does a GRPO step cost through the ports that recipes use? Run by `benchmarks.grpo_vs_trl.run`."""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from benchmarks.grpo_vs_trl.job import (
    ADAM_BETAS,
    ADAM_EPS,
    GRAD_CLIP_NORM,
    GROUP_SIZE,
    LEARNING_RATE,
    LORA_ALPHA,
    LORA_RANK,
    MAX_TOKENS,
    WARM_UP_STEPS,
    Meter,
    contestant_arguments,
    mean,
    questions,
    reward,
)

from crucible.adapters.tokenizer import HfTokenizerStore
from crucible.adapters.torch import TorchBackend
from crucible.ports.datum import Datum, ModelInput, TensorData
from crucible.ports.sampling_client import SampledSequence, SamplingParams
from crucible.ports.training_client import AdamParams, SessionConfig, TrainingSession

ADAM = AdamParams(
    learning_rate=LEARNING_RATE,
    beta1=ADAM_BETAS[0],
    beta2=ADAM_BETAS[1],
    eps=ADAM_EPS,
    grad_clip_norm=GRAD_CLIP_NORM,
)


@dataclass
class Phases:
    """CPU seconds of the process by phase, summed over steps."""

    spent: dict[str, float] = field(default_factory=dict[str, float])
    _last: float = field(default_factory=time.process_time)

    def end(self, phase: str) -> None:
        """What passed since the last phase's end was this phase's."""
        now = time.process_time()
        self.spent[phase] = self.spent.get(phase, 0.0) + now - self._last
        self._last = now


def datum(prompt: Sequence[int], sampled: SampledSequence, advantage: float) -> Datum:
    """Zeros on the prompt; the sampler's logprobs and the member's advantage on what was sampled."""
    text, before = [*prompt, *sampled.tokens], len(prompt) - 1
    zeros = np.zeros(before, np.float32)
    tensors = {
        "target_tokens": np.asarray(text[1:], np.int64),
        "logprobs": np.concatenate([zeros, np.asarray(sampled.logprobs, np.float32)]),
        "advantages": np.concatenate([zeros, np.full(len(sampled.tokens), advantage, np.float32)]),
    }
    inputs = {name: TensorData(data) for name, data in tensors.items()}
    return Datum(ModelInput.from_ints(text[:-1]), inputs)


def step(backend: TorchBackend, session: TrainingSession, index: int, phases: Phases) -> tuple[float, int]:
    """One step; (mean reward, tokens sampled)."""
    training, sampling = backend.training_client, backend.sampling_client
    saved = training.save_weights_for_sampler(session, f"step-{index}").result()
    sampler = sampling.start_session(model_path=saved.path).result()
    phases.end("weights to the sampler")
    tokenizer = sampling.get_tokenizer(sampler)
    asked = questions(index)
    prompts = [tokenizer.encode(question.prompt).ids for question in asked]
    futures = [
        sampling.sample(
            sampler,
            ModelInput.from_ints(prompt),
            num_samples=GROUP_SIZE,
            params=SamplingParams(max_tokens=MAX_TOKENS, seed=1000 * index + place),
        )
        for place, prompt in enumerate(prompts)
    ]
    groups = [future.result().sequences for future in futures]
    phases.end("sampling")
    datums: list[Datum] = []
    rewards: list[float] = []
    for question, prompt, group in zip(asked, prompts, groups, strict=True):
        own = [reward(tokenizer.decode(member.tokens), question.answer) for member in group]
        rewards += own
        datums += [datum(prompt, member, earned - mean(own)) for member, earned in zip(group, own, strict=True)]
    training.forward_backward(session, datums, loss_fn="importance_sampling")
    training.optim_step(session, ADAM).result()
    sampling.close_session(sampler).result()
    phases.end("training")
    return mean(rewards), sum(len(member.tokens) for group in groups for member in group)


def main() -> None:
    """Train, print the line."""
    args = contestant_arguments(main.__doc__).parse_args()
    meter = Meter()
    with tempfile.TemporaryDirectory() as scratch:
        backend = TorchBackend(
            checkpoint_dir=Path(scratch),
            resolve_model=Path,
            tokenizers=HfTokenizerStore(resolve_model=Path),
            dtype=args.dtype,
            threads=args.threads,
        )
        config = SessionConfig(
            model=str(args.model), lora_rank=LORA_RANK, lora_alpha=LORA_ALPHA, seed=0, train_unembed=False
        )
        session = backend.training_client.start_session(config).result()
        meter.loaded()
        phases = Phases()
        for index in range(args.steps + WARM_UP_STEPS):
            if index == WARM_UP_STEPS:
                phases = Phases()
            earned, tokens = step(backend, session, index, phases)
            meter.step(reward=earned, tokens=tokens)
        backend.close()
    meter.report(name="ours", dtype=args.dtype, phases=phases.spent)


if __name__ == "__main__":
    main()
