"""Who continues a prompt? A `Completer`: the seeds' name for a thin layer on a `SamplingClient`."""

import math
from abc import ABC, abstractmethod

from crucible.errors import ConfigError, PortError
from crucible.ports.datum import ModelInput
from crucible.ports.sampling_client import SampledSequence, SamplingClient, SamplingParams, SamplingSession
from crucible.ports.training_client import SavedWeights
from crucible.train.rl.types import Action, StopCondition


class Completer(ABC):
    """Continues prompts with one policy, whose weights never change."""

    @abstractmethod
    async def complete(self, prompt: ModelInput, *, stop: StopCondition, seed: int, n: int = 1) -> list[Action]:
        """`n` continuations of `prompt`; the i-th is a function of prompt, weights, `seed` and i.

        stop: what ends them; with none given, the model's own EOS tokens.

        Raises:
            StaleWeightsError: if other weights than the policy's drew them.
            PortError: if the backend failed, or gave what is no completion.
            ConfigError: if the prompt leaves no room in the model's context.
        """


class SessionCompleter(Completer):
    """Samples from one session.

    max_tokens: most tokens of a turn; fewer where the prompt leaves less of the context.
    temperature: 0 is greedy.
    policy: the weights that must have drawn every token; None takes any, the base model's too.
    context_length: most positions of the model; None: not known here, and the backend will say.
    """

    def __init__(
        self,
        client: SamplingClient,
        session: SamplingSession,
        *,
        max_tokens: int,
        temperature: float,
        policy: SavedWeights | None,
        context_length: int | None = None,
    ) -> None:
        assert max_tokens >= 1, "a turn has a token"
        self._client, self._session = client, session
        self._max_tokens, self._temperature = max_tokens, temperature
        self._policy, self._context_length = policy, context_length

    async def complete(self, prompt: ModelInput, *, stop: StopCondition, seed: int, n: int = 1) -> list[Action]:
        params = SamplingParams(
            max_tokens=self._room(prompt), temperature=self._temperature, seed=seed, stop=stop or None
        )
        response = await self._client.sample(self._session, prompt, num_samples=n, params=params)
        if self._policy is not None:
            response.provenance.require(self._policy)
        if len(response.sequences) != n:
            raise self._broken(f"{n} completions were asked for, and {len(response.sequences)} came")
        for sequence in response.sequences:
            self._check(sequence)
        return [
            Action(
                tokens=sequence.tokens,
                logprobs=sequence.logprobs,
                stop_reason=sequence.stop_reason,
                seed=seed,
                provenance=response.provenance,
            )
            for sequence in response.sequences
        ]

    def _check(self, sequence: SampledSequence) -> None:
        """Refuse what cannot be trained on now, before it is graded and recorded."""
        if not sequence.tokens:
            raise self._broken("a completion has no token: even one that stops at once has the token it stops with")
        if len(sequence.tokens) != len(sequence.logprobs):
            raise self._broken(f"{len(sequence.tokens)} tokens came with {len(sequence.logprobs)} logprobs")
        for place, logprob in enumerate(sequence.logprobs):
            if not math.isfinite(logprob):
                raise self._broken(f"the logprob of a completion's token {place} is {logprob}")

    def _broken(self, what: str) -> PortError:
        return PortError(what, port=self._client.port_name, adapter=self._client.adapter_name)

    def _room(self, prompt: ModelInput) -> int:
        if self._context_length is None:
            return self._max_tokens
        room = self._context_length - prompt.length
        if room < 1:
            raise ConfigError.of(
                "the prompt leaves no room for an answer",
                given=f"{prompt.length} tokens; the model's context has {self._context_length}",
                fix="Shorten the prompt, or take a model with a longer context",
            )
        return min(room, self._max_tokens)
