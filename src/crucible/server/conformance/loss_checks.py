"""Is every loss its formula, in values and in gradients?

Values: computed here from the logprobs that come back. Gradients: a run that takes a step on the loss must end where
a run of the same seed ends that takes a step on cross_entropy with weights = -d loss / d logprob.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crucible.server.conformance import formulas
from crucible.server.conformance.checks import Bench, Check, differ, probe, row, same, tokens, told
from crucible.server.conformance.messages import Row
from crucible.server.conformance.runs import Session

Array = NDArray[Any]

_GAPS = (0.0, 0.1, -0.1, 0.5, -0.5, 1.5, -1.5, 0.05)
"""l - q of a row's tokens in turn: ratios inside and outside every threshold, none of them near one."""
_ADVANTAGES = (1.0, -1.0, 0.7, -0.4, 1.3, -1.6, 0.0)


def _policy_rows(session: Session, *, mask: bool = False) -> list[Row]:
    """Rows with logprobs around the model's own, and advantages of both signs and zero."""
    rows = probe()
    scored = session.run().forward(rows)
    made: list[Row] = []
    for index, each in enumerate(rows):
        lp = scored.array(index)
        gaps, advantages = np.resize(_GAPS, lp.shape), np.resize(_ADVANTAGES, lp.shape)
        inside = np.asarray(advantages != 0, dtype=np.float32)
        extra: Mapping[str, Array] = {"sequence_ratio_mask": inside} if mask else {}
        made.append(
            each.having(
                weights=None,
                logprobs=(lp - gaps / (3 if mask else 1)).astype(np.float32),
                advantages=advantages.astype(np.float32),
                **extra,
            )
        )
    return made


def _check(
    bench: Bench,
    loss_fn: str,
    formula: formulas.Formula,
    *,
    configs: Sequence[Mapping[str, float]] = ({},),
    mask: bool = False,
) -> str:
    found: list[str] = []
    for config in configs:
        with bench.session() as session:
            found.append(_check_config(bench, session, loss_fn, formula, config=config, mask=mask))
    return told(*found)


def _check_config(
    bench: Bench,
    session: Session,
    loss_fn: str,
    formula: formulas.Formula,
    *,
    config: Mapping[str, float],
    mask: bool,
) -> str:
    rows = _policy_rows(session, mask=mask)
    run, equivalent = session.run(), session.run()
    scores = run.forward_backward(rows, loss_fn=loss_fn, config=config)
    expected = [formula(scores.array(index).astype(float), each.inputs, config) for index, each in enumerate(rows)]
    as_weights = [
        each.having(logprobs=None, advantages=None, sequence_ratio_mask=None, weights=-derivative)
        for each, (_, derivative) in zip(rows, expected, strict=True)
    ]
    equivalent.forward_backward(as_weights)
    for each in (run, equivalent):
        each.descend(bench.rate())
    plain = [each.having(logprobs=None, advantages=None, sequence_ratio_mask=None) for each in rows]
    after = equivalent.forward(plain).flat()
    losses = np.concatenate([loss for loss, _ in expected])
    # A logprob's error e is one of up to 5 e in exp(1.5) * A.
    within = 5 * bench.tolerance
    settings = f"{dict(config)} " if config else ""
    return told(
        same(f"{settings}loss:sum", scores.loss, losses.sum(), within=within * losses.size),
        same(f"{settings}gradient, seen after a step", run.forward(plain).flat(), after, within=within),
        differ("the step itself", after, scores.flat(), by=5 * bench.tolerance),
    )


def loss_cross_entropy(bench: Bench) -> str:
    """cross_entropy is -logprob * weight; without weights every token counts 1."""
    rows = [each.having(weights=None) for each in probe()]
    with bench.session() as session:
        run = session.run()
        scores = run.forward(rows)
        return same("loss without weights", scores.loss, -scores.flat().sum(), within=bench.tolerance * 19)


def loss_importance_sampling(bench: Bench) -> str:
    """importance_sampling is -exp(l - q) * A."""
    return _check(bench, "importance_sampling", formulas.importance_sampling)


def loss_ppo(bench: Bench) -> str:
    """ppo is -min(r * A, clip(r, 0.8, 1.2) * A), or with the thresholds of the request."""
    wide = {"clip_low_threshold": 0.5, "clip_high_threshold": 2.0}
    return _check(bench, "ppo", formulas.ppo, configs=({}, wide))


def loss_cispo(bench: Bench) -> str:
    """cispo is -clip(r, 0, 4) * l * A with no gradient through the ratio, or with the thresholds of the request."""
    narrow = {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}
    return _check(bench, "cispo", formulas.cispo, configs=({}, narrow))


def loss_dro(bench: Bench) -> str:
    """dro is -(l * A - beta / 2 * (l - q)^2)."""
    return _check(bench, "dro", formulas.dro, configs=({"beta": 0.05}, {"beta": 0.5}))


def loss_gspo(bench: Bench) -> str:
    """gspo is ppo on the sequence's mean ratio."""
    thresholds = {"clip_low_threshold": 0.8, "clip_high_threshold": 1.2}
    return _check(bench, "gspo", formulas.gspo, configs=(thresholds,), mask=True)


def _topk_rows() -> tuple[Row, list[Row]]:
    """A row with three targets at a position, many of weight zero; and one dense row for each of the three."""
    plain, others = row(10, seed=3), [tokens(10, seed=seed) for seed in (4, 5)]
    targets = np.stack([plain.inputs["target_tokens"], *map(np.asarray, others)], axis=1)
    weights = np.random.default_rng(6).uniform(0.2, 1.0, targets.shape).astype(np.float32)
    weights[2:8, 1:] = 0.0
    targets[2:8, 1:] = 0
    sparse = Row(
        tokens=plain.tokens,
        inputs={"target_tokens": targets, "weights": weights},
        sparse=frozenset({"target_tokens", "weights"}),
    )
    columns = [
        Row(tokens=plain.tokens, inputs={"target_tokens": targets[:, k], "weights": weights[:, k]}) for k in range(3)
    ]
    return sparse, columns


def sparse_targets(bench: Bench) -> str:
    """cross_entropy takes (N, K) targets, dense or as sparse rows, and trains as K datums of one target each."""
    sparse, columns = _topk_rows()
    dense = Row(tokens=sparse.tokens, inputs=sparse.inputs)
    with bench.session() as session:
        one, other, apart = session.run(), session.run(), session.run()
        scores = [one.forward_backward([sparse]), other.forward_backward([dense])]
        expected = apart.forward_backward(columns)
        for run in (one, other, apart):
            run.descend(bench.rate())
        asked = sparse.inputs["weights"] != 0
        lp = np.stack([expected.array(k) for k in range(3)], axis=1)
        after = apart.forward(columns).flat()
        return told(
            same("logprobs of (N, K)", scores[0].array(0)[asked], lp[asked], within=bench.tolerance),
            same("loss, sparse", scores[0].loss, expected.loss, within=30 * bench.tolerance),
            same("loss, dense", scores[1].loss, expected.loss, within=30 * bench.tolerance),
            same("gradient, sparse", one.forward(columns).flat(), after, within=bench.tolerance),
            same("gradient, dense", other.forward(columns).flat(), after, within=bench.tolerance),
        )


CHECKS = (
    Check(loss_cross_entropy),
    Check(loss_importance_sampling),
    Check(loss_ppo),
    Check(loss_cispo),
    Check(loss_dro, required=False),
    Check(loss_gspo, required=False),
    Check(sparse_targets),
)
