"""Are completions drawn, stopped and scored as the protocol says?"""

from collections.abc import Mapping
from typing import cast

import numpy as np

from crucible.server.conformance.answers import Broken, Mismatch
from crucible.server.conformance.checks import Array, Bench, Check, differ, holds, probe, same, tokens, told
from crucible.server.conformance.messages import Completion, Row
from crucible.server.conformance.runs import Run, Sampler, unique

_PROMPT = tokens(8, seed=21)


def _scored(run: Run, prompt: tuple[int, ...], completion: Completion) -> Array:
    """The trainer's logprobs of a completion's tokens."""
    ids = (*prompt, *completion.tokens)
    scores = run.forward([Row(tokens=ids[:-1], inputs={"target_tokens": np.asarray(ids[1:])})])
    return scores.array(0)[len(prompt) - 1 :]


_FREE: Mapping[str, object] = {"temperature": 1.0, "stop": list[int]()}
"""Drawn from the model itself, stopped by nothing but max_tokens."""


def _one(sampler: Sampler, **params: object) -> Completion:
    """One completion; `params` override `_FREE`."""
    drawn = sampler.sample(_PROMPT, {**_FREE, **params})
    if len(drawn.completions) != 1:
        raise Broken(f"1 completion was asked for, {len(drawn.completions)} came")
    return drawn.completions[0]


def sampled_logprobs_are_untempered(bench: Bench) -> str:
    """Sampled logprobs are the trainer's own, whatever temperature, top_k and top_p the tokens were drawn with."""
    found: list[str] = []
    with bench.session() as session:
        run, sampler = session.run(), session.sampler()
        for params in (
            {"temperature": 1.0},
            {"temperature": 0.5, "top_p": 0.9},
            {"temperature": 1.5, "top_k": 5},
        ):
            drawn = _one(sampler, max_tokens=8, seed=3, **params)
            found.append(same(str(params), drawn.logprobs, _scored(run, _PROMPT, drawn), within=bench.tolerance))
    return told(*found)


def sampler_is_the_trainer(bench: Bench) -> str:
    """A sampler of saved weights gives a trained adapter's logprobs as the trainer does."""
    rows = probe()
    with bench.session() as session:
        run = bench.stepped(session, rows)
        sampler = session.sampler(run.save_for_sampler(unique("trainer")))
        drawn = _one(sampler, max_tokens=8, seed=3)
        scored = run.forward(rows)
        prompt = (*rows[0].tokens, int(rows[0].inputs["target_tokens"][-1]))
        return told(
            same("sampled logprobs", drawn.logprobs, _scored(run, _PROMPT, drawn), within=bench.tolerance),
            same("prompt logprobs", sampler.prompt_logprobs(prompt)[1:], scored.array(0), within=bench.tolerance),
        )


def prompt_logprobs(bench: Bench) -> str:
    """prompt_logprobs has one entry per prompt token, nothing for the first, the trainer's logprobs after it."""
    ids = tokens(10, seed=22)
    with bench.session() as session:
        got = session.sampler().prompt_logprobs(ids)
        scores = session.run().forward([Row(tokens=ids[:-1], inputs={"target_tokens": np.asarray(ids[1:])})])
    return told(
        holds(len(got) == len(ids), "entries", expected=len(ids), got=len(got)),
        holds(bool(np.isnan(got[0])), "the first entry", expected="none", got=got[0]),
        same("the others", got[1:], scores.array(0), within=bench.tolerance),
    )


def seed_reproduces(bench: Bench) -> str:
    """A seed gives the same completions again; another seed, or another sample of the group, gives others."""
    with bench.session() as session:
        sampler = session.sampler()
        first, again, other = (
            sampler.sample(_PROMPT, {**_FREE, "max_tokens": 12, "seed": seed}, num_samples=4).completions
            for seed in (5, 5, 6)
        )
    left, right, third = ([each.tokens for each in group] for group in (first, again, other))
    return told(
        holds(len(left) == 4, "completions of num_samples=4", expected=4, got=len(left)),
        holds(left == right, "the same seed gives the same tokens", expected=left, got=right),
        holds(len(set(left)) > 1, "samples of one seed differ", expected="several completions", got=set(left)),
        holds(left != third, "another seed gives other tokens", expected=f"not {left}", got=third),
    )


def without_a_seed_completions_differ(bench: Bench) -> str:
    """Without a seed two requests draw different completions."""
    with bench.session() as session:
        sampler = session.sampler()
        drawn = [_one(sampler, max_tokens=16).tokens for _ in range(2)]
    return holds(drawn[0] != drawn[1], "two requests", expected=f"not twice {drawn[0]}", got=drawn[1])


def greedy(bench: Bench) -> str:
    """Temperature 0 takes the likeliest token whatever the seed; so does top_k=1 at any temperature."""
    with bench.session() as session:
        sampler = session.sampler()
        first, again = (_one(sampler, max_tokens=8, temperature=0.0, seed=seed) for seed in (1, 2))
        single = _one(sampler, max_tokens=8, top_k=1, seed=3)
    return told(
        holds(first.tokens == again.tokens, "two seeds", expected=first.tokens, got=again.tokens),
        holds(first.tokens == single.tokens, "top_k=1", expected=first.tokens, got=single.tokens),
    )


def lengths_and_reasons(bench: Bench) -> str:
    """stop=[] stops at nothing: max_tokens tokens come, each with its logprob, and the reason is length."""
    with bench.session() as session:
        drawn = _one(session.sampler(), max_tokens=24, seed=1)
    return told(
        holds(len(drawn.tokens) == 24, "tokens", expected=24, got=len(drawn.tokens)),
        holds(len(drawn.logprobs) == 24, "logprobs", expected=24, got=len(drawn.logprobs)),
        holds(not drawn.stopped, "the reason", expected="length", got="stop" if drawn.stopped else "length"),
    )


def stop_ids(bench: Bench) -> str:
    """A list of ids stops at the first of them, which is included."""
    with bench.session() as session:
        sampler = session.sampler()
        free = _one(sampler, max_tokens=16, seed=8)
        wanted = free.tokens[5]
        place = free.tokens.index(wanted)
        drawn = _one(sampler, max_tokens=16, seed=8, stop=[wanted])
    expected = free.tokens[: place + 1]
    return told(
        holds(drawn.tokens == expected, f"tokens up to {wanted}", expected=expected, got=drawn.tokens),
        holds(drawn.stopped, "the reason", expected="stop", got="stop" if drawn.stopped else "length"),
    )


_LETTERS = (" ", "e", "a", "t", "i", "o", "n", "s", "1", "0", "\n", ".")


def stop_strings(bench: Bench) -> str:
    """A stop string ends a completion at the token that completes it; of several strings the first to come does."""
    with bench.session() as session:
        sampler = session.sampler()
        free = _one(sampler, max_tokens=32, seed=9)
        strings = _LETTERS if bench.tokenizer is None else _strings_of(bench.tokenizer.decode(free.tokens))
        cut = {each: _one(sampler, stop=each, max_tokens=32, seed=9) for each in strings}
        both = _one(sampler, stop=list(cut), max_tokens=32, seed=9)
    for string, drawn in cut.items():
        start = free.tokens[: len(drawn.tokens)]
        holds(drawn.tokens == start, f"{string!r} cuts", expected=start, got=drawn.tokens)
        if bench.tokenizer is not None:
            whole, before = bench.tokenizer.decode(drawn.tokens), bench.tokenizer.decode(drawn.tokens[:-1])
            holds(drawn.stopped and string in whole, "the completion has the stop string", expected=string, got=whole)
            holds(string not in before, "it came with the last token", expected=f"no {string!r}", got=before)
    shortest = min(len(drawn.tokens) for drawn in cut.values())
    seen = "with the text at hand" if bench.tokenizer else "by their lengths (no tokenizer at hand)"
    return told(
        holds(len(both.tokens) == shortest, "tokens up to the first of all", expected=shortest, got=len(both.tokens)),
        f"{sum(drawn.stopped for drawn in cut.values())} of {len(cut)} strings came up, checked {seen}",
    )


def _strings_of(text: str) -> list[str]:
    """Strings of a completion to stop it at: some letters, and some pairs, which cross the borders of tokens."""
    plain = [place for place in range(1, len(text)) if 32 < ord(text[place]) < 127]
    pairs = [text[place : place + 2] for place in plain if place + 1 in plain]
    return list(dict.fromkeys([*(text[place] for place in plain[:4]), *pairs[:2]])) or [" "]


def stop_default(bench: Bench) -> str:
    """Without `stop` the model's end-of-sequence token ends a completion; what comes before it is the same."""
    with bench.session() as session:
        run = session.run()
        ends = sorted(bench.tokenizer.eos_ids) if bench.tokenizer is not None else []
        if ends:
            _teach(run, ends[0])
        sampler = session.sampler(run.save_for_sampler(unique("stop")))
        asked = {"max_tokens": 24, "temperature": 1.0, "seed": 4}
        free = sampler.sample(_PROMPT, {**asked, "stop": list[int]()}, num_samples=8).completions
        default = sampler.sample(_PROMPT, asked, num_samples=8).completions
    for left, right in zip(default, free, strict=True):
        length = len(left.tokens)
        holds(left.tokens == right.tokens[:length], "a beginning", expected=right.tokens[:length], got=left.tokens)
        holds(left.stopped or length == 24, "an unstopped length", expected=24, got=length)
        holds(not right.stopped and len(right.tokens) == 24, "stop=[]", expected="24 tokens", got=len(right.tokens))
        if ends:
            right_end = left.tokens[-1] in ends if left.stopped else not {*ends} & {*left.tokens}
            holds(right_end, "the last token", expected=f"one of {ends}, or none of them at all", got=left.tokens)
    stopped = sum(each.stopped for each in default)
    if ends:
        holds(stopped > 0, "completions that ended by themselves", expected="some of 8", got=stopped)
    return f"8 completions are beginnings of those with stop=[]; {stopped} ended by themselves"


def _teach(run: Run, end: int) -> None:
    """Train until the prompt is mostly followed by the end-of-sequence token."""
    row = Row(tokens=_PROMPT, inputs={"target_tokens": np.asarray((*_PROMPT[1:], end)), "weights": np.zeros(8)})
    row.inputs["weights"][-1] = 1.0
    for _ in range(40):
        if run.forward_backward([row]).array(0)[-1] > -0.5:
            return
        run.step({"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8})
    raise Mismatch("40 steps of training on one token", expected="it is likely", got="it is not")


def sequence_ids(bench: Bench) -> str:
    """A sampling request is answered with one sample_sequence_id per completion, before any is drawn."""
    with bench.session() as session:
        promise = session.sampler().submit(_PROMPT, {**_FREE, "max_tokens": 2}, num_samples=3)
        ids = promise.accepted.get("sample_sequence_ids")
        promise.drawn()
    right = isinstance(ids, list) and len({str(each) for each in cast(list[object], ids)}) == 3
    return holds(right, "sample_sequence_ids", expected="3 different ids", got=cast(object, ids))


def top_p_and_top_k_restrict(bench: Bench) -> str:
    """A tiny top_p takes the likeliest token alone."""
    with bench.session() as session:
        sampler = session.sampler()
        likeliest = _one(sampler, max_tokens=8, temperature=0.0)
        nucleus = _one(sampler, max_tokens=8, top_p=1e-6, seed=2)
        free = _one(sampler, max_tokens=24, temperature=2.0, seed=2)
        greedy_24 = _one(sampler, max_tokens=24, temperature=0.0)
    return told(
        holds(nucleus.tokens == likeliest.tokens, "top_p=1e-6", expected=likeliest.tokens, got=nucleus.tokens),
        differ("temperature 2 and greedy", np.array(free.tokens), np.array(greedy_24.tokens), by=1),
    )


CHECKS = (
    Check(sampled_logprobs_are_untempered),
    Check(sampler_is_the_trainer),
    Check(prompt_logprobs),
    Check(seed_reproduces),
    Check(without_a_seed_completions_differ),
    Check(greedy),
    Check(top_p_and_top_k_restrict),
    Check(lengths_and_reasons),
    Check(stop_ids),
    Check(stop_strings),
    Check(stop_default),
    Check(sequence_ids),
)
