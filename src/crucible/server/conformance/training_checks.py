"""Do gradients add up, scale, clear and apply as the protocol says?"""

import numpy as np

from crucible.server.conformance.checks import Array, Bench, Check, differ, holds, probe, row, same, told, weighted
from crucible.server.conformance.runs import SEED, descent


def loss_is_a_sum(bench: Bench) -> str:
    """The loss is the sum of -logprob * weight over all tokens and datums; nothing is averaged."""
    rows = [row(12, seed=1, weight=0.5), row(7, seed=2, weight=3.0)]
    with bench.session() as session:
        run = session.run()
        both, alone = run.forward(rows), [run.forward([each]) for each in rows]
    weights = np.concatenate([each.inputs["weights"] for each in rows])
    within = bench.tolerance * float(np.abs(weights).sum())
    return told(
        same("loss:sum", both.loss, -(weights * both.flat()).sum(), within=within),
        same("two datums together, and alone", both.loss, sum(each.loss for each in alone), within=within),
        same(
            "logprobs in a batch, and alone",
            both.flat(),
            np.concatenate([each.flat() for each in alone]),
            within=bench.tolerance,
        ),
    )


def split_requests_accumulate(bench: Bench) -> str:
    """Two forward_backward requests before a step train as one request with the data of both."""
    rows = probe()
    with bench.session() as session:
        whole, split = bench.stepped(session, rows), session.run()
        for each in rows:
            split.forward_backward([each])
        split.descend(bench.rate())
        return same(
            "logprobs after the step", split.forward(rows).flat(), whole.forward(rows).flat(), within=bench.tolerance
        )


def weights_scale_gradients(bench: Bench) -> str:
    """Weights of 2 make twice the gradient of weights of 1, whatever the weights of the other tokens are."""
    rows = probe()
    with bench.session() as session:
        single, double = session.run(), session.run()
        before = single.forward_backward(rows)
        doubled = double.forward_backward(weighted(rows, 2.0))
        single.descend(bench.rate())
        double.descend(bench.rate() / 2)
        after = single.forward(rows).flat()
        return told(
            same("loss of doubled weights", doubled.loss, 2 * before.loss, within=4 * bench.tolerance * len(after)),
            same("twice the weights, half the rate", double.forward(rows).flat(), after, within=bench.tolerance),
            differ("the step itself", before.flat(), after, by=5 * bench.tolerance),
        )


def negative_weights(bench: Bench) -> str:
    """A negative weight makes the opposite gradient: it undoes a positive one, and lowers the logprobs."""
    rows = probe()
    with bench.session() as session:
        run, opposite = session.run(), session.run()
        before = run.forward_backward(rows).flat()
        run.forward_backward(weighted(rows, -1.0))
        run.descend(bench.rate())
        opposite.forward_backward(weighted(rows, -1.0))
        opposite.descend(bench.rate() / 4)
        lowered = float((opposite.forward(rows).flat() - before).sum())
        return told(
            same("logprobs after +1 and -1", run.forward(rows).flat(), before, within=bench.tolerance),
            holds(lowered < 0, "the sum of logprobs after -1", expected="lower", got=f"{lowered:.4g} nats"),
        )


def zero_weights_train_nothing(bench: Bench) -> str:
    """Tokens of weight 0 add no gradient, alone or beside others."""
    rows = probe()
    silent = [rows[0], rows[1].having(weights=np.zeros_like(rows[1].inputs["weights"]))]
    with bench.session() as session:
        alone, beside = bench.stepped(session, rows[:1]), bench.stepped(session, silent)
        return same(
            "logprobs after the step", beside.forward(rows).flat(), alone.forward(rows).flat(), within=bench.tolerance
        )


def step_uses_and_clears_gradients(bench: Bench) -> str:
    """A step applies what was accumulated once; the next step starts from nothing."""
    rows = probe()
    with bench.session() as session:
        run = bench.stepped(session, rows)
        after = run.forward(rows).flat()
        run.descend(bench.rate())
        return same("logprobs after an empty step", run.forward(rows).flat(), after, within=bench.tolerance)


def forward_trains_nothing(bench: Bench) -> str:
    """A forward request leaves no gradient behind."""
    rows = probe()
    with bench.session() as session:
        run = session.run()
        before = run.forward(rows).flat()
        run.descend(bench.rate())
        return same("logprobs after forward and a step", run.forward(rows).flat(), before, within=bench.tolerance)


def grad_clip_norm(bench: Bench) -> str:
    """grad_clip_norm scales a longer gradient down to that norm, leaves a shorter one alone, and 0 means none."""
    rows, rate = probe(), bench.rate()
    with bench.session() as session:
        plain = session.run()
        before = plain.forward_backward(rows).flat()
        plain.descend(rate)
        after = plain.forward(rows).flat()
        # To first order a step of descent raises the weighted logprobs by rate * norm ** 2.
        norm = float(np.sqrt(max((after - before).sum(), 1e-9) / rate))
        loose, tight, scaled = session.run(), session.run(), session.run()
        for run, factor, clip, pace in (
            (loose, 1.0, 100 * norm, rate),
            (tight, 1.0, norm / 10, 10 * rate),
            (scaled, 50.0, norm / 10, 10 * rate),
        ):
            run.forward_backward(weighted(rows, factor))
            run.descend(pace, grad_clip_norm=clip)
        clipped = tight.forward(rows).flat()
        return told(
            same("a norm far above the gradient's", loose.forward(rows).flat(), after, within=bench.tolerance),
            same("a gradient and 50 times it, clipped", scaled.forward(rows).flat(), clipped, within=bench.tolerance),
            differ("clipped, and not moved at all", clipped, before, by=5 * bench.tolerance),
        )


def weight_decay(bench: Bench) -> str:
    """weight_decay is AdamW's: it scales the adapter by 1 - learning_rate * weight_decay at each step."""
    rows = probe()
    with bench.session() as session:
        run = session.run()
        before = run.forward_backward(rows).flat()
        run.descend(bench.rate())
        after = run.forward(rows).flat()
        run.step({**descent(0.0), "learning_rate": 0.5, "weight_decay": 2.0})
        return told(
            same("logprobs once the adapter is scaled by 0", run.forward(rows).flat(), before, within=bench.tolerance),
            differ("trained, and not", after, before, by=5 * bench.tolerance),
        )


def adam_normalises(bench: Bench) -> str:
    """Adam's first step has the same size for a gradient and for 100 times it (eps is far below both)."""
    rows = probe()
    with bench.session() as session:
        single, scaled = session.run(), session.run()
        before = single.forward_backward(rows).flat()
        scaled.forward_backward(weighted(rows, 100.0))
        for run in (single, scaled):
            run.step({"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-12})
        after = single.forward(rows).flat()
        return told(
            # eps is not zero and gradients may be: elements of the size of rounding noise may go either way.
            same("a gradient and 100 times it", scaled.forward(rows).flat(), after, within=10 * bench.tolerance),
            differ("the step itself", before, after, by=5 * bench.tolerance),
        )


def adam_remembers(bench: Bench) -> str:
    """Adam's moments move the weights at a step without a gradient; with beta1 and beta2 0 nothing does."""
    rows = probe()
    with bench.session() as session:
        run, still = session.run(), session.run()
        for each, betas in ((run, (0.9, 0.95)), (still, (0.0, 0.0))):
            each.forward_backward(rows)
            each.step({"learning_rate": 1e-2, "beta1": betas[0], "beta2": betas[1], "eps": 1e-8})
        between, quiet = run.forward(rows).flat(), still.forward(rows).flat()
        run.step({"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.95, "eps": 1e-8})
        still.step({"learning_rate": 1e-2, "beta1": 0.0, "beta2": 0.0, "eps": 1e-8})
        return told(
            differ("an empty step with momentum", run.forward(rows).flat(), between, by=5 * bench.tolerance),
            same("an empty step without", still.forward(rows).flat(), quiet, within=bench.tolerance),
        )


def lora_seed(bench: Bench) -> str:
    """The LoRA seed decides the fresh adapter: one seed trains alike, another does not."""
    rows = probe()
    with bench.session() as session:
        after: list[Array] = []
        for seed in (SEED, SEED, SEED + 1):
            run = session.run(seed=seed)
            run.forward_backward(rows)
            run.descend(bench.rate())
            after.append(run.forward(rows).flat())
        return told(
            same("one seed twice", after[1], after[0], within=bench.tolerance),
            differ("another seed", after[2], after[0], by=2 * bench.tolerance),
        )


def fresh_adapter_is_the_base_model(bench: Bench) -> str:
    """A fresh adapter changes nothing: runs of different seeds and ranks score alike before they are trained."""
    rows = probe()
    with bench.session() as session:
        first, second = session.run(), session.run(seed=SEED + 1, rank=4)
        return same("logprobs", second.forward(rows).flat(), first.forward(rows).flat(), within=bench.tolerance)


def lora_layers(bench: Bench) -> str:
    """train_attn, train_mlp and train_unembed choose which layers are trained."""
    rows = probe()
    kinds: tuple[dict[str, bool], ...] = (
        {"train_mlp": False},
        {"train_attn": False},
        {"train_unembed": True},
        {},
    )
    after: list[Array] = []
    with bench.session() as session:
        for kind in kinds:
            run = session.run(**kind)
            run.forward_backward(rows)
            run.descend(bench.rate() / 4)
            after.append(run.forward(rows).flat())
    pairs = [(one, other) for one in range(len(kinds)) for other in range(one)]
    return told(
        *(
            differ(f"{kinds[one] or 'default'} and {kinds[other]}", after[one], after[other], by=2 * bench.tolerance)
            for one, other in pairs
        )
    )


CHECKS = (
    Check(loss_is_a_sum),
    Check(split_requests_accumulate),
    Check(weights_scale_gradients),
    Check(negative_weights),
    Check(zero_weights_train_nothing),
    Check(step_uses_and_clears_gradients),
    Check(forward_trains_nothing),
    Check(grad_clip_norm),
    Check(weight_decay),
    Check(adam_normalises),
    Check(adam_remembers),
    Check(fresh_adapter_is_the_base_model),
    Check(lora_seed),
    Check(lora_layers, required=False),
)
