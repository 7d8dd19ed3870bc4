"""How can a backend be wrong? One class per fault, in the place of the engine's clients."""

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from crucible.ports.datum import Datum, TensorData
from crucible.ports.future import Future


class Faulty:
    """A client that does what another does, but for the methods that a subclass writes anew."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def after(future: Any, change: Callable[[Any], Any]) -> Future[Any]:
    """A future's result, changed."""
    source: Any = type(future._source)()

    def done(ended: Any) -> None:
        try:
            source.set_result(change(ended.result()))
        except BaseException as error:  # noqa: BLE001  (it belongs to whoever waits)
            source.set_exception(error)

    future._source.add_done_callback(done)
    return Future(source)


def with_weights(datums: Sequence[Datum], change: Callable[[Any], Any]) -> list[Datum]:
    """The datums with their weights changed, where they have any."""
    return [
        dataclasses.replace(
            each,
            loss_fn_inputs={
                name: TensorData(change(tensor.data).astype(np.float32)) if name == "weights" else tensor
                for name, tensor in each.loss_fn_inputs.items()
            },
        )
        for each in datums
    ]


class NormalisesWeights(Faulty):
    def forward_backward(self, session: Any, datums: Any, **more: Any) -> Any:
        return self.inner.forward_backward(session, with_weights(datums, lambda w: w / max(abs(w).sum(), 1)), **more)


class ClampsWeights(Faulty):
    def forward_backward(self, session: Any, datums: Any, **more: Any) -> Any:
        return self.inner.forward_backward(session, with_weights(datums, lambda w: np.maximum(w, 0)), **more)


class AveragesTheLoss(Faulty):
    def forward(self, session: Any, datums: Any, **more: Any) -> Any:
        def averaged(output: Any) -> Any:
            metrics = {**output.metrics, "loss:sum": output.metrics["loss:sum"] / len(datums)}
            return dataclasses.replace(output, metrics=metrics)

        return after(self.inner.forward(session, datums, **more), averaged)


class DropsSplitGradients(Faulty):
    """Of several forward_backward requests before a step, the last alone counts."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.last: dict[str, Any] = {}

    def forward_backward(self, session: Any, datums: Any, **more: Any) -> Any:
        self.last[session.session_id] = (datums, more)
        return self.inner.forward(session, datums, **more)

    def optim_step(self, session: Any, params: Any) -> Any:
        if session.session_id in self.last:
            datums, more = self.last.pop(session.session_id)
            self.inner.forward_backward(session, datums, **more)
        return self.inner.optim_step(session, params)


class KeepsGradients(Faulty):
    """A step does not clear what it used."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.seen: dict[str, list[Any]] = defaultdict(list)

    def forward_backward(self, session: Any, datums: Any, **more: Any) -> Any:
        self.seen[session.session_id].append((datums, more))
        return self.inner.forward_backward(session, datums, **more)

    def optim_step(self, session: Any, params: Any) -> Any:
        stepped = self.inner.optim_step(session, params)
        for datums, more in self.seen[session.session_id]:
            self.inner.forward_backward(session, datums, **more)
        return stepped


class TrainsOnForward(Faulty):
    def forward(self, session: Any, datums: Any, **more: Any) -> Any:
        return self.inner.forward_backward(session, datums, **more)


def without(**settings: float) -> type[Faulty]:
    """A server that overrides Adam's parameters."""

    class Ignores(Faulty):
        def optim_step(self, session: Any, params: Any) -> Any:
            return self.inner.optim_step(session, dataclasses.replace(params, **settings))

    return Ignores


def starting_with(**settings: Any) -> type[Faulty]:
    """A server that overrides the adapter's configuration."""

    class Ignores(Faulty):
        def start_session(self, config: Any) -> Any:
            return self.inner.start_session(dataclasses.replace(config, **settings))

    return Ignores


def losing(asked: str, used: str) -> type[Faulty]:
    """A server that computes another loss than the one asked for."""

    class Swaps(Faulty):
        def forward_backward(self, session: Any, datums: Any, *, loss_fn: str, **more: Any) -> Any:
            if loss_fn == asked:
                kept = ("target_tokens", "logprobs", "advantages")
                datums = [
                    dataclasses.replace(each, loss_fn_inputs={name: each.loss_fn_inputs[name] for name in kept})
                    for each in datums
                ]
                loss_fn, more = used, {**more, "loss_fn_config": None}
            return self.inner.forward_backward(session, datums, loss_fn=loss_fn, **more)

    return Swaps


class IgnoresLossConfig(Faulty):
    def forward_backward(self, session: Any, datums: Any, **more: Any) -> Any:
        return self.inner.forward_backward(session, datums, **{**more, "loss_fn_config": None})


class SharesOneAdapter(Faulty):
    """Whoever creates a model gets the first one."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.only: Any = None

    def start_session(self, config: Any) -> Any:
        self.only = self.only or self.inner.start_session(config)
        return self.only

    def close_session(self, session: Any) -> Any:
        del session  # it is everybody's
        return Future.ready(None)


def loading_with(*, optimizer: bool) -> type[Faulty]:
    """A server that always, or never, restores the optimizer."""

    class Ignores(Faulty):
        def load_checkpoint(self, session: Any, path: str, **more: Any) -> Any:
            return self.inner.load_checkpoint(session, path, **{**more, "optimizer": optimizer})

    return Ignores


def lacking(*losses: str) -> type[Faulty]:
    """A server without some losses, which it says."""

    class Lacks(Faulty):
        def capabilities(self) -> Any:
            known = self.inner.capabilities()
            return dataclasses.replace(known, losses=known.losses - {*losses})

    return Lacks


class AnswersWith500(Faulty):
    """A user's mistake ends in an exception that nobody foresaw."""

    def forward_backward(self, session: Any, datums: Any, **more: Any) -> Any:
        def raised() -> Any:
            try:
                return self.inner.forward_backward(session, datums, **more).result(60)
            except Exception as error:
                raise RuntimeError("CUDA error: device-side assert triggered") from error

        return Future.of(raised)


def reporting(change: Callable[[Any], Any]) -> type[Faulty]:
    """A server whose forward outputs are changed."""

    class Changes(Faulty):
        def forward(self, session: Any, datums: Any, **more: Any) -> Any:
            return after(self.inner.forward(session, datums, **more), change)

        def forward_backward(self, session: Any, datums: Any, **more: Any) -> Any:
            return after(self.inner.forward_backward(session, datums, **more), change)

    return Changes


def without_elementwise_loss(output: Any) -> Any:
    """An output of logprobs alone."""
    return dataclasses.replace(
        output,
        loss_fn_outputs=[
            {name: tensor for name, tensor in each.items() if name == "logprobs"} for each in output.loss_fn_outputs
        ],
    )


def with_a_bare_metric(output: Any) -> Any:
    """An output with a metric that the SDK raises at."""
    return dataclasses.replace(output, metrics={**output.metrics, "loss": 1.0})


class TempersLogprobs(Faulty):
    def sample(self, session: Any, prompt: Any, *, params: Any, **more: Any) -> Any:
        def tempered(response: Any) -> Any:
            scale = 1 / (params.temperature or 1.0)
            sequences = tuple(
                dataclasses.replace(each, logprobs=tuple(scale * value for value in each.logprobs))
                for each in response.sequences
            )
            return dataclasses.replace(response, sequences=sequences)

        return after(self.inner.sample(session, prompt, params=params, **more), tempered)


class LeaksTraining(Faulty):
    """A sampler of saved weights samples from whatever was opened last."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.last: Any = None

    def start_session(self, **more: Any) -> Any:
        opened = self.inner.start_session(**more)
        if more.get("model_path") is not None:
            self.last = opened
        return opened

    def sample(self, session: Any, prompt: Any, **more: Any) -> Any:
        return self.inner.sample(self.last.result(60) if session.model_path else session, prompt, **more)


class IgnoresTheAdapter(Faulty):
    """A sampler of saved weights samples from the base model."""

    def start_session(self, **more: Any) -> Any:
        return self.inner.start_session(base_model=more["base_model"])


def sampling_with(**settings: Any) -> type[Faulty]:
    """A server that overrides sampling parameters."""

    class Ignores(Faulty):
        def sample(self, session: Any, prompt: Any, *, params: Any, **more: Any) -> Any:
            return self.inner.sample(session, prompt, params=dataclasses.replace(params, **settings), **more)

    return Ignores


class TakesEmptyStopForNone(Faulty):
    def sample(self, session: Any, prompt: Any, *, params: Any, **more: Any) -> Any:
        stop = params.stop or None
        return self.inner.sample(session, prompt, params=dataclasses.replace(params, stop=stop), **more)


class DrawsOneForAll(Faulty):
    """The samples of a group are copies."""

    def sample(self, session: Any, prompt: Any, *, num_samples: int = 1, **more: Any) -> Any:
        def copied(response: Any) -> Any:
            return dataclasses.replace(response, sequences=response.sequences * num_samples)

        return after(self.inner.sample(session, prompt, num_samples=1, **more), copied)


class ScoresTheFirstToken(Faulty):
    def sample(self, session: Any, prompt: Any, **more: Any) -> Any:
        def scored(response: Any) -> Any:
            if response.prompt_logprobs is None:
                return response
            return dataclasses.replace(response, prompt_logprobs=(0.0, *response.prompt_logprobs[1:]))

        return after(self.inner.sample(session, prompt, **more), scored)
