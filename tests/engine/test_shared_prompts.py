"""Has a prompt that is computed once the scores and gradients of one that is computed for every member?"""

import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import tiny_models
import torch
from group_data import assert_equal, group, members, one_by_one, tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from rl_data import Bench, drawn_adapter, relative, with_inputs
from tiny_models import EXACT, WINDOW, datums

from crucible.engine import attention_shared
from crucible.engine.attention_shared import TreeAttention
from crucible.engine.losses import LOSSES
from crucible.engine.mixing import Mixer
from crucible.engine.model import LoadedModel, load_model
from crucible.engine.rows import rows_of
from crucible.engine.scoring import Scores
from crucible.ports.datum import Datum

SIX = list(LOSSES)
KINDS = ("train_attn", "train_mlp")


def submitted(mixer: Mixer, bench: Bench, examples: Sequence[Datum], loss_fn: str) -> "Future[Scores]":
    loss, loaded = LOSSES[loss_fn], bench.loaded
    rows = rows_of(examples, loss, vocab_size=loaded.vocab_size, context_length=loaded.context_length)
    return mixer.submit(loaded, bench.adapter, rows, loss=loss, config=loss.config, wanted="all", backward=True)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("model") / "llama"
    tiny_models.write("llama_untied", folder)
    return Bench.of(folder, train_unembed=True)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Tokens of each row that goes through a model as a tree."""
    seen, run = [], LoadedModel.shared_hidden_states

    def shared_hidden_states(self: LoadedModel, tree: object) -> torch.Tensor:
        seen.append(len(tree.tokens))
        return run(self, tree)

    monkeypatch.setattr(LoadedModel, "shared_hidden_states", shared_hidden_states)
    return seen


@pytest.mark.parametrize("token_budget", [1, 40, 1000])
@pytest.mark.parametrize("loss_fn", SIX)
def test_a_groups_scores_and_gradients_are_those_of_its_members_alone(
    bench: Bench, loss_fn: str, token_budget: int, computed: list[int]
) -> None:
    examples = group(bench, loss_fn)
    assert_equal(bench.score(examples, loss_fn, token_budget=token_budget), one_by_one(bench, examples, loss_fn))
    assert computed


@pytest.mark.parametrize("loss_fn", ["cross_entropy", "importance_sampling"])
def test_with_several_targets_at_a_position(bench: Bench, loss_fn: str, computed: list[int]) -> None:
    examples = [*group(bench, loss_fn, targets=3), *group(bench, loss_fn, targets=2, seed=1)]
    assert_equal(bench.score(examples, loss_fn, token_budget=80), one_by_one(bench, examples, loss_fn))
    assert computed


@pytest.mark.parametrize("name", [name for name in EXACT if name != "qwen3_moe"])
def test_every_architecture_shares(name: str, model_folder: Callable[[str], Path], computed: list[int]) -> None:
    bench = Bench.of(model_folder(name))
    examples = group(bench, "ppo", prompt=WINDOW + 5)
    assert_equal(bench.score(examples, "ppo", token_budget=60), one_by_one(bench, examples, "ppo"))
    assert computed


@settings(deadline=None, max_examples=12)
@given(
    shapes=st.lists(st.tuples(st.integers(1, 40), st.lists(st.integers(1, 30), min_size=1, max_size=5)), max_size=4),
    header=st.integers(0, 30),
    loss_fn=st.sampled_from(SIX),
    token_budget=st.integers(1, 250),
    seed=st.integers(0, 9),
)
def test_any_groups_in_any_order_are_their_members_alone(
    bench: Bench, shapes: list[tuple[int, list[int]]], header: int, loss_fn: str, token_budget: int, seed: int
) -> None:
    examples = group(bench, loss_fn)
    for place, (prompt, lengths) in enumerate(shapes):
        start = [*tokens(header, seed), *tokens(prompt, place)]  # what the prompts begin with is one text too
        own = [tokens(length, 7 * place + index) for index, length in enumerate(lengths)]
        examples += members(bench, start, own, loss_fn, seed=place)
    random.Random(seed).shuffle(examples)
    assert_equal(bench.score(examples, loss_fn, token_budget=token_budget), one_by_one(bench, examples, loss_fn))


def test_a_prompt_is_computed_once_and_a_common_header_too(bench: Bench, computed: list[int]) -> None:
    header, tails = tokens(15, 1), [tokens(5, 2), tokens(6, 3)]
    completions = [tokens(4, seed) for seed in (4, 5, 6)]
    examples = [one for tail in tails for one in members(bench, [*header, *tail], completions, "ppo")]
    bench.score(examples, "ppo", token_budget=1000)
    # The last token of a completion is only a target.
    assert computed == [15 + 5 + 6 + 6 * 3]


def test_what_no_loss_needs_is_not_computed(bench: Bench, computed: list[int]) -> None:
    examples = members(bench, tokens(20, 1), [tokens(9, 2), tokens(9, 3), tokens(9, 4)], "ppo")
    advantages = [example.loss_fn_inputs["advantages"].data.copy() for example in examples]
    advantages[0][22:] = 0  # three targets are left: the prompt's last token and two more
    advantages[1][:] = 0
    examples = [with_inputs(one, advantages=own) for one, own in zip(examples, advantages, strict=True)]
    ours = bench.score(examples, "ppo", wanted="weighted", token_budget=1000)
    assert computed == [20 + 2 + 8]
    assert_equal(ours, one_by_one(bench, examples, "ppo", wanted="weighted"))


def test_a_sequences_ratio_counts_tokens_without_an_advantage(bench: Bench) -> None:
    examples = group(bench, "gspo")
    for example in examples:
        example.loss_fn_inputs["advantages"].data.setflags(write=True)
        example.loss_fn_inputs["advantages"].data[21:] = 0
    ours = bench.score(examples, "gspo", wanted="weighted", token_budget=1000)
    assert_equal(ours, one_by_one(bench, examples, "gspo", wanted="weighted"))


def test_different_members_give_the_same_bytes_in_any_order(bench: Bench) -> None:
    examples = [one for seed in (0, 5) for one in group(bench, "cispo", seed=seed)[:4]]
    straight, reverse = bench.score(examples, "cispo"), bench.score(examples[::-1], "cispo")
    assert all(torch.equal(one, other) for one, other in zip(straight.gradients, reverse.gradients, strict=True))
    for one, other in zip(straight.logprobs, reverse.logprobs[::-1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_call_gives_the_same_bytes_again(bench: Bench) -> None:
    first, again = (bench.score(group(bench, "dro"), "dro") for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first.gradients, again.gradients, strict=True))


def test_texts_that_share_a_system_prompt_alone_are_laid_out_row_by_row(bench: Bench, computed: list[int]) -> None:
    header = tokens(20, 1)
    asked = [[*header, *tokens(5, seed)] for seed in range(4)]
    bench.score(
        [one for text in asked for one in members(bench, text, [tokens(9, 5)], "cross_entropy")], "cross_entropy"
    )
    bench.score(datums(12, 12, 7), "cross_entropy")
    assert computed == []


@pytest.mark.parametrize("name", ["llama", "mistral"])
def test_a_long_row_is_cut_into_smaller_blocks(
    name: str, model_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench.of(model_folder(name))
    examples = group(bench, "ppo", prompt=60)
    whole = bench.score(examples, "ppo", token_budget=1000)
    monkeypatch.setattr(attention_shared, "_LONG", 10)
    assert_equal(bench.score(examples, "ppo", token_budget=1000), whole)


@settings(deadline=None, max_examples=6)
@given(
    lengths=st.lists(st.integers(1, 45), max_size=4),
    budget=st.integers(1, 120),
    losses=st.permutations(SIX),
    seed=st.integers(0, 9),
)
def test_groups_of_several_sessions_mix_with_others_calls(
    bench: Bench, lengths: list[int], budget: int, losses: list[str], seed: int
) -> None:
    mixer = Mixer(token_budget=budget)
    other, third = (Bench(bench.loaded, drawn_adapter(bench.loaded, **{kind: False})) for kind in KINDS)
    calls = [
        (bench, losses[0], group(bench, losses[0], seed=seed)),
        (other, losses[1], group(other, losses[1], prompt=31)),
        (third, "cross_entropy", datums(*lengths)),
    ]
    futures = [submitted(mixer, own, examples, loss_fn) for own, loss_fn, examples in calls]
    while mixer.busy:
        mixer.step()
    for (own, loss_fn, examples), future in zip(calls, futures, strict=True):
        if examples:
            assert_equal(future.result(), one_by_one(own, examples, loss_fn))


def test_a_model_that_cannot_be_laid_out_so_trains_row_by_row(
    llama: Path, monkeypatch: pytest.MonkeyPatch, computed: list[int]
) -> None:
    attend = TreeAttention.attend

    def leaking(self: TreeAttention, query: torch.Tensor, *given: object) -> torch.Tensor:
        return attend(self, query, *given) + query.sum()

    monkeypatch.setattr(TreeAttention, "attend", leaking)
    bench = Bench.of(llama)
    assert not bench.loaded.shares
    examples = group(bench, "ppo")
    computed.clear()  # of the probe
    assert_equal(bench.score(examples, "ppo"), one_by_one(bench, examples, "ppo"))
    assert computed == []


def test_bfloat16_gradients_follow_float32s(model_folder: Callable[[str], Path]) -> None:
    whole = Bench.of(model_folder("llama"))
    loaded = load_model(model_folder("llama"), dtype="bfloat16", device=torch.device("cpu"))
    half = Bench(loaded, whole.adapter)
    examples = group(whole, "cross_entropy")
    ours, theirs = half.score(examples, "cross_entropy").gradients, whole.score(examples, "cross_entropy").gradients
    assert relative(ours, theirs) < 0.05
