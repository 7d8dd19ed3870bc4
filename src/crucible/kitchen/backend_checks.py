"""Does the backend compute what it is asked to? A few short rows, through the `TrainingClient` port alone.

Sums must not depend on how the rows are cut into calls: rows together score as each alone, one call accumulates what
several do, and the loss is the sum that it is said to be. Each check starts its own sessions from one seed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from crucible.errors import PortError
from crucible.ports import TrainingClient
from crucible.ports.datum import Datum, TensorData
from crucible.ports.training_client import AdamParams, ForwardBackwardOutput, SessionConfig, TrainingSession
from crucible.train.checks import Finding


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """logprob: nats between two ways to the same logprob. relative: share between two ways to the same sum or norm.
    step: share between what the same step does to the loss in two sessions."""

    logprob: float
    relative: float
    step: float


TOLERANCES: Mapping[str, Tolerance] = {
    "float32": Tolerance(logprob=1e-3, relative=1e-3, step=1e-2),
    "float16": Tolerance(logprob=5e-2, relative=2e-2, step=1e-1),
    "bfloat16": Tolerance(logprob=2e-1, relative=5e-2, step=2e-1),
}
"""By the dtype that the backend names. What is looked for (a neighbour attended to, rows weighted by their call) moves
logprobs by tenths of a nat and sums by a factor. Rounding stays far below: 5e-6 nats and 4e-6 of a norm in float32 on
SmolLM2-135M; in bfloat16 6e-6 of a norm, but single logprobs differ by 0.3 after equal steps, and so only the loss of
all is compared there."""
_UNKNOWN = TOLERANCES["bfloat16"]  # a hosted backend does not name its dtype, and bfloat16 is the usual one


@dataclass(frozen=True, kw_only=True, eq=False)
class Bench:
    """What a backend check works with. origins: where each datum's row is from."""

    client: TrainingClient
    session: SessionConfig
    datums: Sequence[Datum]
    origins: Sequence[str]
    loss_fn: str
    tolerance: Tolerance


BackendCheck: TypeAlias = Callable[[Bench], Awaitable[Finding]]


async def check_backend(bench: Bench, *, only: Collection[str] = ()) -> list[Finding]:
    """The findings of all backend checks, or of those named. A backend that computes nothing is not judged."""
    findings: list[Finding] = []
    for name, check in BACKEND_CHECKS.items():
        if only and name not in only:
            continue
        if not bench.client.capabilities().computes:
            why = f"the backend {bench.client.adapter_name} computes nothing"
            findings.append(Finding(check=name, status="skipped", sentence=why))
        elif not bench.datums:
            findings.append(Finding(check=name, status="skipped", sentence="no row trains a token"))
        else:
            findings.append(await _checked(name, check, bench))
    return findings


async def tolerance_of(client: TrainingClient) -> Tolerance:
    """The tolerance for the backend's dtype."""
    found = await asyncio.to_thread(client.environment)
    return TOLERANCES.get(found.get("dtype", ""), _UNKNOWN)


async def _checked(name: str, check: BackendCheck, bench: Bench) -> Finding:
    try:
        return await check(bench)
    except PortError as error:
        return Finding(check=name, status="fail", sentence=f"the backend failed: {error}")


async def _batching(bench: Bench) -> Finding:
    """Rows scored in one call have the logprobs that each has alone."""
    async with _Sessions(bench) as sessions:
        session = await sessions.start()
        together = await _forward(bench, session, bench.datums)
        alone = [(await _forward(bench, session, [datum]))[0] for datum in bench.datums]
    gaps = [_gap(one, other) for one, other in zip(together, alone, strict=True)]
    worst = int(np.argmax(gaps))
    told = f"{len(gaps)} rows scored in one call and each alone: logprobs differ by up to {gaps[worst]:.1e} nats"
    return _judged(
        "batching",
        told,
        good=gaps[worst] <= bench.tolerance.logprob,
        where=bench.origins[worst],
        fix="The backend lets rows of a batch see each other (packing, padding): use batch_size=1, and report it",
    )


async def _accumulation(bench: Bench) -> Finding:
    """One call over all rows takes the step that one call per row takes."""
    norms: list[float | None] = []
    moved: list[float] = []
    async with _Sessions(bench) as sessions:
        for calls in ([list(bench.datums)], [[datum] for datum in bench.datums]):
            session = await sessions.start()
            before = await _total(bench, session)
            norms.append(await _gradient_norm(bench, session, calls))
            for call in calls:
                await bench.client.forward_backward(session, call, loss_fn=bench.loss_fn)
            await bench.client.optim_step(session, _gentle(norms[0]))
            moved.append(await _total(bench, session) - before)
    apart = _apart(*moved)
    told = f"a step of one call over {len(bench.datums)} rows moves the loss by {moved[0]:.6g}, of one per row by "
    told += f"{moved[1]:.6g}"
    good = apart <= bench.tolerance.step
    if norms[0] is not None and norms[1] is not None:
        apart = _apart(norms[0], norms[1])
        told += f"; the gradients' norms differ by {apart:.1e} of their size"
        good = good and apart <= bench.tolerance.relative
    fix = "The backend does not add gradients up as they are: keep gradient_accumulation_steps=1, and report it"
    return _judged("accumulation", told, good=good, fix=fix)


async def _loss(bench: Bench) -> Finding:
    """The loss returned is `-sum(logprob * weight)`; it and its gradient follow the weights in size and sign."""
    async with _Sessions(bench) as sessions:
        session = await sessions.start()
        losses: dict[float, float] = {}
        logprobs: list[NDArray[np.float32]] = []
        for factor in (1.0, 2.0, -1.0):
            output = await bench.client.forward(session, _weighted(bench.datums, factor), loss_fn=bench.loss_fn)
            losses[factor] = output.metrics["loss:sum"]
            logprobs = logprobs or _logprobs(output)
        norm = await _gradient_norm(bench, session, [bench.datums])
        double = await _gradient_norm(bench, session, [_weighted(bench.datums, 2.0)])
        opposite = await _gradient_norm(bench, session, [bench.datums, _weighted(bench.datums, -1.0)])
    written = _written(logprobs, bench.datums)
    wrong = [
        f"{what} is {found:.6g} instead of {expected:.6g}"
        for what, found, expected in (
            ("the loss", losses[1.0], written),
            ("the loss at doubled weights", losses[2.0], 2 * losses[1.0]),
            ("the loss at negative weights", losses[-1.0], -losses[1.0]),
            *((("the gradient's norm at doubled weights", double, 2 * norm),) if norm and double else ()),
        )
        if not _apart(found, expected) <= bench.tolerance.relative
    ]
    if norm and opposite is not None and not opposite <= bench.tolerance.relative * norm:
        wrong.append(f"gradients of opposite weights leave {opposite:.6g} of {norm:.6g} instead of nothing")
    if wrong:
        fix = "The backend normalises or drops weights: its steps are not those of this recipe; report it"
        return Finding(check="loss", status="fail", sentence="; ".join(wrong), fix=fix)
    gradient = ", and so does its gradient" if norm else ""
    told = f"{bench.loss_fn} is -sum(logprob * weight) = {written:.6g}, and follows the weights{gradient}"
    return Finding(check="loss", status="pass", sentence=told)


BACKEND_CHECKS: Mapping[str, BackendCheck] = {
    "batching": _batching,
    "accumulation": _accumulation,
    "loss": _loss,
}
"""Every check of the backend, by name."""


class _Sessions:
    """Sessions of one config and seed, closed at the end of the block."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._open = bench, list[TrainingSession]()

    async def __aenter__(self) -> "_Sessions":
        return self

    async def start(self) -> TrainingSession:
        session = await self._bench.client.start_session(replace(self._bench.session, user_metadata={"for": "doctor"}))
        self._open.append(session)
        return session

    async def __aexit__(self, *_: object) -> None:
        for session in self._open:
            await self._bench.client.close_session(session)


async def _forward(bench: Bench, session: TrainingSession, datums: Sequence[Datum]) -> list[NDArray[np.float32]]:
    return _logprobs(await bench.client.forward(session, datums, loss_fn=bench.loss_fn))


async def _total(bench: Bench, session: TrainingSession) -> float:
    """The loss over all rows, written out."""
    return _written(await _forward(bench, session, bench.datums), bench.datums)


async def _gradient_norm(bench: Bench, session: TrainingSession, calls: Sequence[Sequence[Datum]]) -> float | None:
    """The norm of the gradient that these calls add up to; None where the backend does not say. A step of rate 0
    clears it and leaves the weights as they are."""
    for call in calls:
        await bench.client.forward_backward(session, call, loss_fn=bench.loss_fn)
    stepped = await bench.client.optim_step(session, AdamParams(learning_rate=0.0))
    return stepped.metrics.get("grad_norm")


def _gentle(norm: float | None) -> AdamParams:
    """A step that moves the loss by about a nat, in proportion to the gradient: with eps far above its elements Adam is
    plain descent, which shows a gradient of the wrong size. Adam itself divides the size out."""
    if not norm:
        return AdamParams(learning_rate=1e-3)
    return AdamParams(learning_rate=_EPS / norm**2, eps=_EPS)


_EPS = 1e3


def _judged(check: str, told: str, *, good: bool, fix: str, where: str = "") -> Finding:
    if good:
        return Finding(check=check, status="pass", sentence=told)
    return Finding(check=check, status="fail", sentence=told, where=where, fix=fix)


def _gap(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """The largest difference; infinite where one of them is no number."""
    if one.shape != other.shape or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("inf")
    return float(np.abs(one - other).max(initial=0.0))


def _apart(one: float, other: float) -> float:
    """The difference as a share of the larger one."""
    size = max(abs(one), abs(other))
    return abs(one - other) / size if size else 0.0


def _logprobs(output: ForwardBackwardOutput) -> list[NDArray[np.float32]]:
    return [each["logprobs"].data.astype(np.float32) for each in output.loss_fn_outputs]


def _written(logprobs: Sequence[NDArray[np.float32]], datums: Sequence[Datum]) -> float:
    """`-sum(logprob * weight)`."""
    pairs = zip(logprobs, datums, strict=True)
    return -float(sum(np.sum(scored * _weights(datum), dtype=np.float64) for scored, datum in pairs))


def _weights(datum: Datum) -> NDArray[np.float32]:
    return datum.loss_fn_inputs["weights"].data.astype(np.float32)


def _weighted(datums: Sequence[Datum], factor: float) -> list[Datum]:
    return [
        Datum(datum.model_input, {**datum.loss_fn_inputs, "weights": TensorData(_weights(datum) * np.float32(factor))})
        for datum in datums
    ]
