"""How does a batch go to the backend in several calls and come back as one output?"""

import time
from collections.abc import Generator, Mapping, Sequence
from itertools import pairwise

from crucible.ports.datum import Datum, TensorData
from crucible.ports.future import Future
from crucible.ports.training_client import ForwardBackwardOutput


def parts_of(datums: Sequence[Datum], calls: int) -> list[Sequence[Datum]]:
    """The datums, in order, in `calls` parts whose sizes differ by one at most; none of them is empty."""
    parts = min(calls, len(datums))
    cuts = [len(datums) * part // parts for part in range(parts + 1)]
    return [datums[start:end] for start, end in pairwise(cuts)]


class Accumulated(Future[ForwardBackwardOutput]):
    """The outputs of several calls as that of one: outputs per datum in order; metrics that are sums, added up."""

    def __init__(self, parts: Sequence[Future[ForwardBackwardOutput]]) -> None:
        assert parts, "there is a call to wait for"
        self._parts = tuple(parts)

    def result(self, timeout: float | None = None) -> ForwardBackwardOutput:
        end = None if timeout is None else time.monotonic() + timeout
        outputs = [part.result(None if end is None else max(0.0, end - time.monotonic())) for part in self._parts]
        return _added(outputs)

    def done(self) -> bool:
        return all(part.done() for part in self._parts)

    def __await__(self) -> Generator[object, None, ForwardBackwardOutput]:
        outputs: list[ForwardBackwardOutput] = []
        for part in self._parts:
            outputs.append((yield from part.__await__()))
        return _added(outputs)


def _added(outputs: Sequence[ForwardBackwardOutput]) -> ForwardBackwardOutput:
    """One output. A metric of another reduction than `sum` says nothing of the whole batch and is left out."""
    per_datum: list[Mapping[str, TensorData]] = []
    sums: dict[str, float] = {}
    for output in outputs:
        per_datum.extend(output.loss_fn_outputs)
        for name, value in output.metrics.items():
            if name.endswith(":sum"):
                sums[name] = sums.get(name, 0.0) + value
    return ForwardBackwardOutput(
        loss_fn_output_type=outputs[0].loss_fn_output_type, loss_fn_outputs=per_datum, metrics=dict(sums)
    )
