"""What is a check, and in which words does it say what it found?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crucible.ports.tokenizer import Tokenizer
from crucible.server.conformance.answers import Broken, Mismatch
from crucible.server.conformance.messages import Row
from crucible.server.conformance.runs import Run, Session
from crucible.server.conformance.transport import Transport

Array = NDArray[Any]

_EFFECT = 0.5
"""Nats that a training step of a check moves the average logprob: far above any tolerance, far below nonsense."""


@dataclass(kw_only=True)
class Bench:
    """What every check works with.

    tolerance: nats within which two logprobs are the same.
    tokenizer: the model's, where it is at hand: what stops a completion is then known from its text.
    """

    transport: Transport
    base_model: str
    tolerance: float = 1e-3
    tokenizer: Tokenizer | None = None
    _rate: float | None = None

    def session(self) -> Session:
        """A session of this check alone."""
        return Session(self.transport, base_model=self.base_model)

    @property
    def effect(self) -> float:
        """Nats by which a step must be seen."""
        return max(_EFFECT, 50 * self.tolerance)

    def rate(self) -> float:
        """A rate of gradient descent that moves the probe's logprobs by `effect` on average. Found once.

        Raises:
            Mismatch: if training moves nothing.
        """
        if self._rate is None:
            self._rate = self._search()
        return self._rate

    def _search(self) -> float:
        rows, rate, moved = probe(), 1e-2, 0.0
        for _ in range(16):
            with self.session() as session:
                run = session.run()
                before = run.forward_backward(rows).flat()
                run.descend(rate)
                moved = float(np.mean(np.abs(run.forward(rows).flat() - before)))
            if np.isfinite(moved) and 0.5 * self.effect <= moved <= 2 * self.effect:
                return rate
            rate *= float(np.clip(self.effect / max(moved, 1e-9), 1e-3, 1e3)) if np.isfinite(moved) else 1e-2
        raise Mismatch(
            "a step of gradient descent that can be seen", expected=f"{self.effect:g} nats", got=f"{moved:g} nats"
        )

    def stepped(self, session: Session, rows: Sequence[Row], *, loss_fn: str = "cross_entropy") -> Run:
        """A fresh run that took one step on the rows."""
        run = session.run()
        run.forward_backward(rows, loss_fn=loss_fn)
        run.descend(self.rate())
        return run


@dataclass(frozen=True)
class Check:
    """One check. Its name and its statement are those of the function, which returns what it measured.

    required: the SDK cannot work rightly with a server that fails it or lacks it.
    """

    run: Callable[[Bench], str]
    required: bool = field(default=True, kw_only=True)

    @property
    def name(self) -> str:
        """The function's name."""
        return self.run.__name__

    @property
    def statement(self) -> str:
        """The first line of the function's docstring."""
        return (self.run.__doc__ or "").strip().splitlines()[0]


def tokens(count: int, *, seed: int) -> tuple[int, ...]:
    """`count` token ids that every vocabulary has."""
    return tuple(np.random.default_rng(seed).integers(5, 32, size=count).tolist())


def row(count: int, *, seed: int, weight: float = 1.0) -> Row:
    """A row that predicts each of `count` tokens from those before it."""
    ids = tokens(count + 1, seed=seed)
    return Row(
        tokens=ids[:-1],
        inputs={"target_tokens": np.asarray(ids[1:]), "weights": np.full(count, weight, dtype=np.float32)},
    )


def weighted(rows: Sequence[Row], factor: float) -> list[Row]:
    """The rows with their weights times a factor."""
    return [each.having(weights=each.inputs["weights"] * np.float32(factor)) for each in rows]


def probe() -> list[Row]:
    """The two rows, of different lengths, that most checks train on."""
    return [row(12, seed=1), row(7, seed=2)]


def same(what: str, got: Any, expected: Any, *, within: float) -> str:
    """Demand equal numbers; returns how far apart they are."""
    left, right = np.atleast_1d(np.asarray(got, dtype=float)), np.atleast_1d(np.asarray(expected, dtype=float))
    if left.shape != right.shape:
        raise Mismatch(what, expected=f"shape {right.shape}", got=f"shape {left.shape}")
    if not left.size:
        raise Broken(f"{what}: nothing to compare")
    apart = np.where(np.isnan(left) & np.isnan(right), 0.0, np.abs(left - right))
    worst = int(np.argmax(np.where(np.isnan(apart), np.inf, apart)))
    largest = float(apart.ravel()[worst])
    if not largest <= within:
        place = "" if left.size == 1 else f" at {worst} of {left.size}"
        raise Mismatch(
            what,
            expected=f"{right.ravel()[worst]:.6g}{place} (within {within:g})",
            got=f"{left.ravel()[worst]:.6g}",
        )
    return f"{what}: {largest:.2g} apart (allowed {within:.2g})"


def differ(what: str, left: Array, right: Array, *, by: float) -> str:
    """Demand numbers that differ somewhere by so much; returns by how much they do."""
    apart = float(np.max(np.abs(np.asarray(left, dtype=float) - np.asarray(right, dtype=float))))
    if not apart >= by:
        raise Mismatch(what, expected=f"a difference of at least {by:.2g}", got=f"{apart:.2g}")
    return f"{what}: {apart:.2g} apart"


def holds(condition: bool, what: str, *, expected: object, got: object) -> str:
    """Demand a fact; returns it."""
    if not condition:
        raise Mismatch(what, expected=str(expected), got=str(got)[:300])
    return f"{what}: {str(got)[:80]}"


def told(*evidence: str) -> str:
    """What a check measured, in one line."""
    return "; ".join(evidence)
