"""How is a model trained over HTTP? Each request takes its turn, and answers at once with the id of its future."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crucible.errors import UnsupportedError
from crucible.ports.datum import Datum, ImageChunk
from crucible.ports.future import Future
from crucible.ports.training_client import AdamParams, ForwardBackwardOutput, OptimStepOutput
from crucible.server.answers import answer, answered
from crucible.server.bodies import read_body, read_json
from crucible.server.futures import MakeTurn, failed, fill, promise, queue, quick, refused, take_turn
from crucible.server.live import Live
from crucible.server.making import check_optimizer, make_run, new_lora, reference_of
from crucible.server.refusals import Refusal
from crucible.server.requests import Adam, CreateModel, GetInfo, OptimStep
from crucible.server.results import PROTOBUF, Payload, Result
from crucible.server.sessions import Run, Session
from crucible.server.wire import messages_pb2 as wire
from crucible.server.wire.training import loss_config, parse_forward_backward, read_datums, write_output

A = TypeVar("A")
R = TypeVar("R")
LARGE = 256 * 1024
"""A body of so many bytes, or an outcome of so many numbers, is converted in a thread of its own."""


def routes(live: Live) -> list[Route]:
    """The endpoints, without their prefix."""

    async def create_model(request: Request) -> Response:
        owner: str = request.state.owner
        call, body = await read_json(request, CreateModel, live.limits)
        session = await live.session(call.session_id, owner)
        return promise(begin_run(live, session, call.model_seq_id, body, lambda: _create(live, session, call)))

    async def get_info(request: Request) -> Response:
        call, _ = await read_json(request, GetInfo, live.limits)
        return answer(_info(await live.run(call.model_id, request.state.owner)))

    async def forward_backward(request: Request) -> Response:
        body = await read_body(request, live.limits)
        try:
            message = await _in_thread_if(len(body) > LARGE, _parsed, body)
        except ValueError as error:
            raise Refusal(400, str(error)) from error
        run = await live.run(message.model_id, request.state.owner)
        turn = await _scoring(live, run, message, large=len(body) > LARGE)
        return promise(queue(live, run, message.seq_id, body, turn), run)

    async def optim_step(request: Request) -> Response:
        return await take_turn(live, request, OptimStep, partial(_stepping, live))

    endpoints = {
        "/forward_backward": forward_backward,
        "/optim_step": optim_step,
        "/create_model": create_model,
        "/get_info": get_info,
    }
    return [Route(path, answered(endpoint), methods=["POST"]) for path, endpoint in endpoints.items()]


def begin_run(
    live: Live, session: Session, model_seq_id: int, body: bytes, work: Callable[[], Awaitable[Payload]]
) -> Result:
    """Make a run in the background, unless the same was asked for before."""
    try:
        if model_seq_id < 0:
            raise ValueError(f"model_seq_id is {model_seq_id}: 0 or more")
        result = session.replays.find(model_seq_id, body)
    except ValueError as error:
        return failed(live, session.owner, error)
    if result is None:
        result = session.replays.add(model_seq_id, body, live.results.open(session.owner))
        live.spawn(fill(live, result, work()))
    return result


def _stepping(live: Live, call: OptimStep, run: Run) -> MakeTurn:
    def submit() -> Future[OptimStepOutput]:
        check_optimizer(call.optimizer_params)
        return live.served.training.optim_step(run.training, adam_params(call.adam_params or Adam()))

    async def written(output: OptimStepOutput) -> Payload:
        live.served.meters.optimizer_steps += 1
        return Payload.of({"metrics": dict(output.metrics), "type": "optim_step"})

    return quick(live, submit, written)


def adam_params(adam: Adam) -> AdamParams:
    """The step's settings, if AdamW can take them. A clipping norm of 0 or less is none.

    Raises:
        ValueError: naming all that are out of range.
    """
    wrong = [
        f"{name} is {value}: {wanted}"
        for name, value, wanted, right in (
            ("learning_rate", adam.learning_rate, "0 or more", adam.learning_rate >= 0),
            ("beta1", adam.beta1, "from 0 to below 1", 0 <= adam.beta1 < 1),
            ("beta2", adam.beta2, "from 0 to below 1", 0 <= adam.beta2 < 1),
            ("eps", adam.eps, "0 or more", adam.eps >= 0),
            ("weight_decay", adam.weight_decay, "0 or more", adam.weight_decay >= 0),
            ("grad_clip_norm", adam.grad_clip_norm, "a number", True),
        )
        if not (right and math.isfinite(value))
    ]
    if wrong:
        raise ValueError("; ".join(wrong))
    return AdamParams(
        learning_rate=adam.learning_rate,
        beta1=adam.beta1,
        beta2=adam.beta2,
        eps=adam.eps,
        weight_decay=adam.weight_decay,
        grad_clip_norm=max(0.0, adam.grad_clip_norm),
    )


async def _create(live: Live, session: Session, call: CreateModel) -> Payload:
    check_optimizer(call.optimizer_config)
    config = new_lora(reference_of(live.served, call.base_model), call.lora_config)
    run = await make_run(live, session, call.model_seq_id, call.base_model, config, call.user_metadata or {})
    return Payload.of({"model_id": run.run_id, "type": "create_model"})


def _info(run: Run) -> dict[str, object]:
    model = {"arch": run.arch, "model_name": run.base_model, "tokenizer_id": run.tokenizer_id}
    return {
        "type": "get_info",
        "model_data": model,
        "model_id": run.run_id,
        "optimizer_config": {"type": "adamw"},
        "is_lora": True,
        "lora_rank": run.training.lora_rank,
        "model_name": run.base_model,
    }


def _parsed(body: bytes) -> wire.ForwardBackwardRequest:
    hash(body)  # which the body remembers: its replays are told by it, and 5 MB take milliseconds
    return parse_forward_backward(body)


async def _scoring(live: Live, run: Run, message: wire.ForwardBackwardRequest, *, large: bool) -> MakeTurn:
    """The turn. What is wrong with the request is said when the turn comes: its number is used up."""
    try:
        if len(message.data) > live.limits.max_datums:
            raise ValueError(f"{len(message.data)} datums in one request: at most {live.limits.max_datums}")
        config = loss_config(message)
        datums = await _in_thread_if(large, read_datums, message.data)
        _check_supported(live, message.loss_fn, datums)
    except ValueError as error:
        return refused(live, error)
    training = live.served.training
    call = training.forward if message.forward_only else training.forward_backward

    async def written(output: ForwardBackwardOutput) -> Payload:
        tokens = sum(datum.model_input.length for datum in datums)
        if message.forward_only:
            live.served.meters.tokens_scored += tokens
        else:
            live.served.meters.tokens_trained += tokens
        return await _written(output)

    return quick(live, lambda: call(run.training, datums, loss_fn=message.loss_fn, loss_fn_config=config), written)


def _check_supported(live: Live, loss_fn: str, datums: list[Datum]) -> None:
    known = live.served.training.capabilities()
    if loss_fn not in known.losses:
        raise UnsupportedError.of(
            "this server has no such loss", given=loss_fn[:100], fix=f"It has {', '.join(sorted(known.losses))}"
        )
    if not datums:
        raise ValueError("there are no datums in the request")
    if not known.images and any(isinstance(c, ImageChunk) for datum in datums for c in datum.model_input.chunks):
        raise UnsupportedError.of("this server takes text alone, no images")


async def _written(output: ForwardBackwardOutput) -> Payload:
    numbers = sum(tensor.data.size for datum in output.loss_fn_outputs for tensor in datum.values())
    body = await _in_thread_if(numbers > LARGE or len(output.loss_fn_outputs) > 64, write_output, output)
    return Payload(body=body, media_type=PROTOBUF)


async def _in_thread_if(large: bool, call: Callable[[A], R], argument: A) -> R:
    return await asyncio.to_thread(call, argument) if large else call(argument)
