"""Does a sampling adapter keep the whole contract of its port?"""

from pathlib import Path

import pytest

from crucible.errors import CheckpointError, ModelError, PortError, UnsupportedError
from crucible.ports.datum import ModelInput
from crucible.ports.sampling_client import SamplingClient, SamplingSession
from crucible.testing.contracts.futures import outcomes
from crucible.testing.contracts.sampling_report import SamplingReports, params
from crucible.testing.contracts.sequences import WAIT, some_ids
from crucible.testing.contracts.suite import NotExercised


class SamplingClientContract(SamplingReports):
    """The contract of `crucible.ports.SamplingClient`: completions, and the reports beside them.

    Fixtures that the subclass gives:
        client: the adapter, fresh for every test.
        model: a base model reference; a tiny one.
    and may give:
        missing_model: a reference to no model (default: a folder that does not exist).
    Weights that training saved are exercised by `TrainingClientContract`, with its `sampling` fixture.
    `tolerance` is 1e-4 nats, for fp32.
    """

    @pytest.fixture
    def missing_model(self, tmp_path: Path) -> str:
        """A reference to no model."""
        return str(tmp_path / "no-such-model")

    def test_a_session_says_what_it_opened(self, session: SamplingSession, model: str) -> None:
        assert (session.base_model, session.model_path) == (model, None)
        assert (session.digest, session.policy_version) == ("", 0)

    def test_a_session_needs_a_model_or_a_path(self, client: SamplingClient) -> None:
        starting = client.start_session()
        with pytest.raises(ValueError):
            starting.result(WAIT)

    def test_what_cannot_be_opened_is_refused(
        self, client: SamplingClient, model: str, missing_model: str, tmp_path: Path
    ) -> None:
        missing_path = str(tmp_path / "no-such-weights")
        for starting in (
            client.start_session(base_model=missing_model),
            client.start_session(model_path=missing_path),
            client.start_session(base_model=model, model_path=missing_path),
        ):
            with pytest.raises((ModelError, CheckpointError)):
                starting.result(WAIT)

    def test_every_sample_has_tokens_with_logprobs_and_a_reason(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput
    ) -> None:
        vocab_size = client.get_tokenizer(session).vocab_size
        response = client.sample(session, prompt, num_samples=3, params=params()).result(WAIT)
        assert len(response.sequences) == 3
        assert response.prompt_logprobs is None
        for sequence in response.sequences:
            assert 1 <= len(sequence.tokens) <= 8
            assert len(sequence.logprobs) == len(sequence.tokens)
            assert all(logprob <= self.tolerance for logprob in sequence.logprobs)
            assert all(0 <= token < vocab_size for token in sequence.tokens)
            assert sequence.stop_reason == "stop" or len(sequence.tokens) == 8

    def test_an_empty_stop_list_runs_to_max_tokens(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput
    ) -> None:
        response = client.sample(session, prompt, num_samples=2, params=params(max_tokens=40, stop=[])).result(WAIT)
        for sequence in response.sequences:
            assert (len(sequence.tokens), sequence.stop_reason) == (40, "length")

    def test_a_stop_token_ends_the_completion_and_is_included(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput, not_exercised: NotExercised
    ) -> None:
        if not client.capabilities().exact:
            not_exercised("stop tokens: completions cannot be repeated")
            return
        free = client.sample(session, prompt, params=params(stop=[])).result(WAIT).sequences[0]
        stop = free.tokens[4]
        stopped = client.sample(session, prompt, params=params(stop=[stop])).result(WAIT).sequences[0]
        assert stopped.tokens == free.tokens[: free.tokens.index(stop) + 1]
        assert stopped.stop_reason == "stop"

    def test_a_stop_string_ends_the_completion_with_the_tokens_that_complete_it(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput, not_exercised: NotExercised
    ) -> None:
        if not client.capabilities().exact:
            not_exercised("stop strings: completions cannot be repeated")
            return
        tokenizer = client.get_tokenizer(session)
        free = client.sample(session, prompt, params=params(stop=[])).result(WAIT).sequences[0]
        texts = [tokenizer.decode(free.tokens[: count + 1]) for count in range(len(free.tokens))]
        stop = texts[4][-2:]
        if not stop or "\ufffd" in stop:
            not_exercised("stop strings: this model's completion is no text")
            return
        ends = next(count for count, text in enumerate(texts) if stop in text)
        for stops in (stop, [stop]):
            stopped = client.sample(session, prompt, params=params(stop=stops)).result(WAIT).sequences[0]
            assert (stopped.tokens, stopped.stop_reason) == (free.tokens[: ends + 1], "stop")

    def test_a_completion_is_a_function_of_prompt_weights_and_seed(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput, not_exercised: NotExercised
    ) -> None:
        if not client.capabilities().exact:
            not_exercised("repeatable completions: the backend does not promise them")
            return
        first = client.sample(session, prompt, num_samples=3, params=params()).result(WAIT)
        client.sample(session, prompt, params=params(seed=2)).result(WAIT)
        again = client.sample(session, prompt, num_samples=3, params=params()).result(WAIT)
        alone = client.sample(session, prompt, num_samples=1, params=params()).result(WAIT)
        assert first == again
        assert [sequence.tokens for sequence in alone.sequences] == [first.sequences[0].tokens]

    def test_a_completion_is_the_same_whatever_is_sampled_beside_it(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput, not_exercised: NotExercised
    ) -> None:
        if not client.capabilities().exact:
            not_exercised("completions beside others: the backend does not promise that they are the same")
            return
        asked = params(max_tokens=12, stop=[])
        alone = client.sample(session, prompt, num_samples=3, params=asked).result(WAIT)
        tokenizer, other = client.get_tokenizer(session), client.start_session(base_model=session.base_model)
        crowd = [
            client.sample(
                opened,
                ModelInput.from_ints(some_ids(tokenizer, length, start=length)),
                num_samples=1 + length % 3,
                params=params(max_tokens=3 * length, seed=length, stop=[]),
            )
            for opened in (session, other.result(WAIT))
            for length in (2, 9, 5)
        ]
        beside = [client.sample(session, prompt, num_samples=3, params=asked) for _ in range(2)]
        assert [future.result(WAIT) for future in reversed(beside)] == [alone, alone]
        assert all(future.result(WAIT).sequences for future in crowd)

    def test_a_request_is_told_of_its_tokens_as_they_are_drawn(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput
    ) -> None:
        told: dict[int, list[int]] = {0: [], 1: []}
        asked = params(max_tokens=12)
        future = client.sample(
            session, prompt, num_samples=2, params=asked, on_token=lambda index, token: told[index].append(token)
        )
        if not client.capabilities().streams:
            with pytest.raises(UnsupportedError):
                future.result(WAIT)
            return
        response = future.result(WAIT)
        assert [told[index] for index in (0, 1)] == [list(sequence.tokens) for sequence in response.sequences]
        if client.capabilities().exact:
            assert response == client.sample(session, prompt, num_samples=2, params=asked).result(WAIT)

    def test_a_listener_that_raises_ends_its_own_request(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput
    ) -> None:
        def listener(index: int, token: int) -> None:
            raise ConnectionAbortedError(f"nobody listens to token {token} of {index}")

        if not client.capabilities().streams:
            return
        beside = client.sample(session, prompt, params=params())
        ended = client.sample(session, prompt, num_samples=2, params=params(), on_token=listener)
        with pytest.raises(ConnectionAbortedError):
            ended.result(WAIT)
        assert beside.result(WAIT).sequences[0].tokens
        assert client.sample(session, prompt, params=params()).result(WAIT).sequences[0].tokens

    def test_samples_and_seeds_differ(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput
    ) -> None:
        long = params(max_tokens=24, temperature=1.5, stop=[])
        group = client.sample(session, prompt, num_samples=4, params=long).result(WAIT)
        unseeded = params(max_tokens=24, temperature=1.5, stop=[], seed=None)
        fresh = [client.sample(session, prompt, params=unseeded).result(WAIT) for _ in range(2)]
        tokens = {sequence.tokens for response in (group, *fresh) for sequence in response.sequences}
        assert len(tokens) == 6

    def test_temperature_zero_is_greedy_whatever_the_seed(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput
    ) -> None:
        responses = [
            client.sample(session, prompt, num_samples=2, params=params(temperature=0.0, seed=seed)).result(WAIT)
            for seed in (1, 2)
        ]
        assert len({sequence.tokens for response in responses for sequence in response.sequences}) == 1

    def test_top_k_of_one_and_a_tiny_top_p_are_greedy_too(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput, not_exercised: NotExercised
    ) -> None:
        if not client.capabilities().computes:
            not_exercised("top-k and top-p: the backend computes nothing")
            return
        greedy = client.sample(session, prompt, params=params(temperature=0.0)).result(WAIT).sequences[0]
        for narrow in (params(top_k=1), params(top_p=1e-6)):
            assert client.sample(session, prompt, params=narrow).result(WAIT).sequences[0].tokens == greedy.tokens

    def test_prompt_logprobs_come_when_asked_for_the_first_being_none(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput, not_exercised: NotExercised
    ) -> None:
        if not client.capabilities().prompt_logprobs:
            not_exercised("prompt logprobs: the backend has none")
            return
        response = client.sample(session, prompt, params=params(), prompt_logprobs=True).result(WAIT)
        alone = client.compute_logprobs(session, prompt).result(WAIT)
        assert response.prompt_logprobs is not None
        assert len(response.prompt_logprobs) == len(alone) == prompt.length
        assert response.prompt_logprobs[0] is None and alone[0] is None
        assert list(response.prompt_logprobs[1:]) == pytest.approx(list(alone[1:]), abs=self.tolerance)

    def test_sampled_logprobs_are_the_models_own_at_temperature_one(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput, not_exercised: NotExercised
    ) -> None:
        if not (client.capabilities().computes and client.capabilities().prompt_logprobs):
            not_exercised("sampled logprobs against the model's: nothing is computed, or no prompt logprobs")
            return
        narrow = params(temperature=0.7, top_k=5, top_p=0.9, stop=[])
        drawn = client.sample(session, prompt, params=narrow).result(WAIT).sequences[0]
        whole = ModelInput.from_ints([*prompt.to_ints(), *drawn.tokens])
        scored = client.compute_logprobs(session, whole).result(WAIT)
        assert list(drawn.logprobs) == pytest.approx(list(scored[prompt.length :]), abs=self.tolerance)

    def test_wrong_requests_are_refused(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput
    ) -> None:
        for wrong in (
            params(max_tokens=0),
            params(max_tokens=10**9),
            params(temperature=-0.1),
            params(top_p=0.0),
            params(top_p=1.1),
            params(top_k=-2),
        ):
            refused = client.sample(session, prompt, params=wrong)
            with pytest.raises(ValueError):
                refused.result(WAIT)
        for refused in (
            client.sample(session, ModelInput(()), params=params()),
            client.sample(session, prompt, num_samples=0, params=params()),
        ):
            with pytest.raises(ValueError):
                refused.result(WAIT)

    def test_a_future_gives_one_value_to_all_who_wait(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput
    ) -> None:
        values = outcomes(client.sample(session, prompt, params=params()), wait=WAIT)
        assert all(value is values[0] for value in values)

    def test_sessions_and_clients_may_be_closed_twice_and_then_take_no_work(
        self, client: SamplingClient, session: SamplingSession, prompt: ModelInput
    ) -> None:
        client.close_session(session).result(WAIT)
        client.close_session(session).result(WAIT)
        with pytest.raises((PortError, ValueError)):
            client.sample(session, prompt, params=params()).result(WAIT)
        client.close()
        client.close()
