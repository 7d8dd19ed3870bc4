"""How fast does the embedded engine sample, exact, through its port? Run by `benchmarks.sampling.run`."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.sampling.job import GREEDY_TOKENS, GROUP_SIZE, Arguments, Job, Request, contestant_arguments, measure

from crucible.adapters.tokenizer import HfTokenizerStore
from crucible.adapters.torch import TorchBackend
from crucible.ports.datum import ModelInput
from crucible.ports.sampling_client import SamplingClient, SamplingParams, SamplingSession

NAMES = ("ours_group", "ours_ragged")


def drawn(
    client: SamplingClient,
    session: SamplingSession,
    requests: Sequence[Request],
    *,
    num_samples: int,
    temperature: float = 1.0,
) -> list[list[int]]:
    """All completions; every request is submitted before the first is awaited."""
    asked = [
        client.sample(
            session,
            ModelInput.from_ints(request.prompt),
            num_samples=num_samples,
            params=SamplingParams(max_tokens=request.max_tokens, temperature=temperature, seed=seed, stop=[]),
        )
        for seed, request in enumerate(requests)
    ]
    return [list(sequence.tokens) for future in asked for sequence in future.result().sequences]


def run(arguments: Arguments, client: SamplingClient, session: SamplingSession) -> None:
    """Measure the job named."""

    def sample(job: Job) -> list[list[int]]:
        if arguments.name == "ours_group":
            return drawn(client, session, [job.group], num_samples=GROUP_SIZE)
        return drawn(client, session, job.ragged, num_samples=1)

    greedy = Request(prompt=arguments.job.group.prompt, max_tokens=GREEDY_TOKENS)
    measure(arguments, sample, greedy=lambda: drawn(client, session, [greedy], num_samples=1, temperature=0.0)[0])


def main() -> None:
    """Measure, print the line."""
    arguments = contestant_arguments(main.__doc__ or "", NAMES)
    with tempfile.TemporaryDirectory() as scratch:
        backend = TorchBackend(
            checkpoint_dir=Path(scratch),
            resolve_model=Path,
            tokenizers=HfTokenizerStore(resolve_model=Path),
            dtype=arguments.dtype,  # pyright: ignore[reportArgumentType]  (argparse has checked it)
            threads=arguments.threads,
        )
        client = backend.sampling_client
        session = client.start_session(base_model=str(arguments.model), model_path=str(arguments.adapter)).result()
        run(arguments, client, session)
        backend.close()


if __name__ == "__main__":
    main()
