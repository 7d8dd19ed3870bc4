"""Is what a sampling backend reports beside its completions true of the same model?"""

from collections.abc import Sequence

import numpy as np
import pytest

from crucible.errors import UnsupportedError
from crucible.ports.datum import ModelInput, TensorData
from crucible.ports.sampling_client import (
    SampleReport,
    SampleResponse,
    SamplingClient,
    SamplingParams,
    SamplingSession,
    TopLogprobs,
)
from crucible.testing.contracts.sequences import WAIT, some_ids
from crucible.testing.contracts.suite import NotExercised, Suite, needed

K = 3
"""How many tokens the reports ask for at each position."""


def params(
    *,
    max_tokens: int = 8,
    temperature: float = 1.0,
    top_k: int = -1,
    top_p: float = 1.0,
    seed: int | None = 1,
    stop: str | list[str] | list[int] | None = None,
) -> SamplingParams:
    """Short, seeded sampling."""
    return SamplingParams(
        max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, stop=stop
    )


class SamplingReports(Suite):
    """`SampleReport`, whole and part by part. Fixtures: see `SamplingClientContract`."""

    tolerance: float = 1e-4
    """How far two ways to one logprob may be apart (nats). Loosen it for bf16."""

    @pytest.fixture
    def client(self) -> SamplingClient:
        raise needed("client")

    @pytest.fixture
    def model(self) -> str:
        raise needed("model")

    @pytest.fixture
    def session(self, client: SamplingClient, model: str) -> SamplingSession:
        return client.start_session(base_model=model).result(WAIT)

    @pytest.fixture
    def prompt(self, client: SamplingClient, session: SamplingSession) -> ModelInput:
        return ModelInput.from_ints(some_ids(client.get_tokenizer(session), 5))

    @pytest.fixture
    def reports(self, client: SamplingClient, not_exercised: NotExercised) -> bool:
        """Whether the backend reports; that it does not is recorded."""
        if not client.capabilities().report:
            not_exercised("reports: the backend gives none")
        return client.capabilities().report

    def spliced(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput, position: int, tokens: Sequence[int]
    ) -> list[float]:
        """The logprob of each token in the place of the prompt's at `position`, by one prompt each."""
        start = prompt.to_ints()[:position]
        prompts = [ModelInput.from_ints([*start, int(token)]) for token in tokens]
        scored = [client.compute_logprobs(session, each) for each in prompts]
        found = [future.result(WAIT)[-1] for future in scored]
        assert None not in found
        return [logprob for logprob in found if logprob is not None]

    def assert_likeliest(self, top: TopLogprobs | None) -> None:
        """K tokens, no two the same, the likeliest first."""
        assert top is not None and len(top) == len(dict(top)) == K
        assert [logprob for _, logprob in top] == sorted((logprob for _, logprob in top), reverse=True)

    def test_a_report_that_is_lacking_is_refused_and_an_empty_one_changes_nothing(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput
    ) -> None:
        asked = client.sample(session, prompt, params=params(), report=SampleReport(topk_sample_logprobs=1))
        if not client.capabilities().report:
            with pytest.raises(UnsupportedError):
                asked.result(WAIT)
            return
        asked.result(WAIT)
        bare, empty = (client.sample(session, prompt, params=params(), report=r) for r in (None, SampleReport()))
        for response in (bare.result(WAIT), empty.result(WAIT)):
            assert response.topk_prompt_logprobs is None and response.target_prompt_logprobs is None
            assert response.prompt_alt_tokens is None and response.prompt_alt_logprobs is None
            assert all(sequence.topk_logprobs is None for sequence in response.sequences)

    def test_the_likeliest_tokens_of_a_completion_have_the_models_own_logprobs(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput, reports: bool
    ) -> None:
        if not reports:
            return
        report = SampleReport(topk_sample_logprobs=K)
        warm, greedy = (
            client.sample(session, prompt, params=params(temperature=heat, stop=[]), report=report).result(WAIT)
            for heat in (0.7, 0.0)
        )
        for response in (warm, greedy):
            (sequence,) = response.sequences
            assert sequence.topk_logprobs is not None and len(sequence.topk_logprobs) == len(sequence.tokens)
            for token, logprob, top in zip(sequence.tokens, sequence.logprobs, sequence.topk_logprobs, strict=True):
                self.assert_likeliest(top)
                assert logprob <= top[0][1] + self.tolerance
                assert dict(top).get(token, logprob) == pytest.approx(logprob, abs=self.tolerance)
        (sequence,) = greedy.sequences
        assert sequence.topk_logprobs is not None
        if client.capabilities().computes:  # else no token follows these logprobs
            best = [top[0][1] for top in sequence.topk_logprobs]
            assert best == pytest.approx(list(sequence.logprobs), abs=self.tolerance)

    def test_the_likeliest_tokens_of_a_prompt_are_those_that_spliced_prompts_find(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput, reports: bool
    ) -> None:
        if not reports:
            return
        report = SampleReport(topk_prompt_logprobs=K)
        response = client.sample(session, prompt, params=params(), prompt_logprobs=True, report=report).result(WAIT)
        tops, chosen = response.topk_prompt_logprobs, response.prompt_logprobs
        assert tops is not None and chosen is not None
        assert len(tops) == prompt.length and tops[0] is None
        for position, (top, logprob) in enumerate(zip(tops[1:], chosen[1:], strict=True), start=1):
            self.assert_likeliest(top)
            assert top is not None and logprob is not None and logprob <= top[0][1] + self.tolerance
            found = self.spliced(client, session, prompt, position, [token for token, _ in top])
            assert [likely for _, likely in top] == pytest.approx(found, abs=self.tolerance)

    def test_targets_are_scored_where_asked_for_and_zero_where_not(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput, reports: bool
    ) -> None:
        if not reports:
            return
        rows = prompt.length - 1
        ids = np.asarray(some_ids(client.get_tokenizer(session), 2 * rows, start=11)).reshape(rows, 2)
        ids[0], ids[2, 1] = -1, -1
        report = SampleReport(target_prompt_logprobs=TensorData(ids))
        scored = client.sample(session, prompt, params=params(), report=report).result(WAIT).target_prompt_logprobs
        assert scored is not None and (scored.shape, scored.dtype) == (ids.shape, "float32")
        for row in range(rows):
            asked = [int(token) for token in ids[row] if token >= 0]
            found = self.spliced(client, session, prompt, row + 1, asked)
            assert scored.data[row][ids[row] >= 0].tolist() == pytest.approx(found, abs=self.tolerance)
        assert not scored.data[ids < 0].any()

    def test_alternatives_are_drawn_from_the_model_at_every_position_and_scored_by_it(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput, reports: bool
    ) -> None:
        if not reports:
            return
        warm, again, greedy = (self.alternatives(client, session, prompt, heat) for heat in (1.3, 1.3, 0.0))
        for response in (warm, greedy):
            tokens, logprobs = response.prompt_alt_tokens, response.prompt_alt_logprobs
            assert tokens is not None and logprobs is not None
            assert (tokens.shape, tokens.dtype) == ((prompt.length - 1, K), "int64")
            assert (logprobs.shape, logprobs.dtype) == ((prompt.length - 1, K), "float32")
            for row in range(prompt.length - 1):
                found = self.spliced(client, session, prompt, row + 1, [int(token) for token in tokens.data[row]])
                assert logprobs.data[row].tolist() == pytest.approx(found, abs=self.tolerance)
        assert warm.prompt_alt_tokens == again.prompt_alt_tokens or not client.capabilities().exact
        assert greedy.prompt_alt_logprobs is not None and greedy.topk_prompt_logprobs is not None
        for row, top in enumerate(greedy.topk_prompt_logprobs[1:]):
            assert top is not None
            assert greedy.prompt_alt_logprobs.data[row].tolist() == pytest.approx([top[0][1]] * K, abs=self.tolerance)

    def alternatives(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput, temperature: float
    ) -> SampleResponse:
        """A response with alternatives and the likeliest token at each position of the prompt."""
        report = SampleReport(prompt_alt_tokens_k=K, topk_prompt_logprobs=1)
        return client.sample(session, prompt, params=params(temperature=temperature), report=report).result(WAIT)

    def test_the_last_n_of_a_prompt_are_scored_as_in_the_whole(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput, reports: bool
    ) -> None:
        if not reports:
            return
        responses: list[SampleResponse] = []
        for last in (None, 2):
            report = SampleReport(topk_prompt_logprobs=K, prompt_logprobs_last_n=last)
            asked = client.sample(session, prompt, params=params(), prompt_logprobs=True, report=report)
            responses.append(asked.result(WAIT))
        whole, part = responses
        assert whole.prompt_logprobs is not None and part.prompt_logprobs is not None
        assert whole.topk_prompt_logprobs is not None and part.topk_prompt_logprobs is not None
        unscored = (None,) * (prompt.length - 2)
        assert part.prompt_logprobs[:-2] == part.topk_prompt_logprobs[:-2] == unscored
        assert list(part.prompt_logprobs[-2:]) == pytest.approx(list(whole.prompt_logprobs[-2:]), abs=self.tolerance)
        for left, right in zip(part.topk_prompt_logprobs[-2:], whole.topk_prompt_logprobs[-2:], strict=True):
            assert left is not None and right is not None
            assert [value for _, value in left] == pytest.approx([value for _, value in right], abs=self.tolerance)

    def test_a_report_that_does_not_fit_the_prompt_is_refused(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput, reports: bool
    ) -> None:
        if not reports:
            return
        rows = prompt.length - 1
        for wrong in (
            SampleReport(topk_prompt_logprobs=-1),
            SampleReport(topk_sample_logprobs=-1),
            SampleReport(prompt_alt_tokens_k=-1),
            SampleReport(prompt_logprobs_last_n=0),
            SampleReport(prompt_logprobs_last_n=prompt.length),
            SampleReport(target_prompt_logprobs=TensorData([[1]] * (rows + 1))),
            SampleReport(target_prompt_logprobs=TensorData([1] * rows)),
            SampleReport(target_prompt_logprobs=TensorData([[10**9]] * rows)),
            SampleReport(target_prompt_logprobs=TensorData([[0.5]] * rows)),
        ):
            refused = client.sample(session, prompt, params=params(), prompt_logprobs=True, report=wrong)
            with pytest.raises(ValueError):
                refused.result(WAIT)
