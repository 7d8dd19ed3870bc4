"""How is a model sampled from over HTTP?"""

import asyncio

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crucible.ports.sampling_client import SampleResponse
from crucible.server.answers import answer, answered
from crucible.server.asking import Asked, asked
from crucible.server.bodies import read_json
from crucible.server.futures import fill
from crucible.server.live import Live
from crucible.server.refusals import Refusal, failure_of
from crucible.server.requests import Asample, CreateSamplingSession, JoinSamplingSession
from crucible.server.results import PROTOBUF, Payload, Result
from crucible.server.samplers import base_sampler, saved_sampler
from crucible.server.sessions import Sampler, Session
from crucible.server.wire.sampling import write_sample_response

CLIENT_BLOCK = 1_000_000_000
"""A sampling session's clients number their requests in blocks of so many, each its own."""


def routes(live: Live) -> list[Route]:
    """The endpoints, without their prefix."""

    async def asample(request: Request) -> Response:
        call, body = await read_json(request, Asample, live.limits)
        sampler = await live.sampler(call.sampling_session_id, request.state.owner)
        result, ids = begin_sample(live, sampler, call, body)
        return answer({"request_id": result.request_id, "sample_sequence_ids": ids})

    async def create_sampling_session(request: Request) -> Response:
        call, body = await read_json(request, CreateSamplingSession, live.limits)
        session = await live.session(call.session_id, request.state.owner)
        sampler = await _create(live, session, call, body)
        return answer({"type": "create_sampling_session", "sampling_session_id": sampler.sampler_id})

    async def get_sampler(request: Request) -> Response:
        sampler = await live.sampler(request.path_params["sampler_id"], request.state.owner)
        return answer(
            {"sampler_id": sampler.sampler_id, "base_model": sampler.base_model, "model_path": sampler.model_path}
        )

    async def join_sampling_session(request: Request) -> Response:
        call, _ = await read_json(request, JoinSamplingSession, live.limits)
        sampler = await live.sampler(call.sampling_session_id, request.state.owner)
        sampler.clients += 1
        return answer({"type": "join_sampling_session", "client_counter": sampler.clients})

    return [
        Route("/asample", answered(asample), methods=["POST"]),
        Route("/create_sampling_session", answered(create_sampling_session), methods=["POST"]),
        Route("/join_sampling_session", answered(join_sampling_session), methods=["POST"]),
        Route("/samplers/{sampler_id}", answered(get_sampler), methods=["GET"]),
    ]


def begin_sample(live: Live, sampler: Sampler, call: Asample, body: bytes) -> tuple[Result, list[str]]:
    """Submit a sampling request, unless it was sent before; its future, and its sequences' ids.

    Raises:
        Refusal: 429 if too many completions are waited for already; 400 if it has no number.
    """
    if call.seq_id < 0:
        raise Refusal(400, f"seq_id is {call.seq_id}: 0 or more")
    owner = sampler.session.owner
    count = max(0, min(call.num_samples, live.limits.max_samples))
    try:
        sent = sampler.replays.find(call.seq_id, body)
    except ValueError as error:
        result = live.results.open(owner)
        live.results.fail(result, failure_of(error))
        return result, _sequence_ids(result, count)
    if sent is not None:
        return sent
    # one that asks for more than the limit by itself waits until nothing else does: else it could never run
    if live.waiting_samples and live.waiting_samples + count > live.limits.max_waiting_samples:
        raise Refusal(429, f"{live.waiting_samples} completions are waited for already", category="server")
    completions = sampler.completions_of(call.seq_id // CLIENT_BLOCK)
    result = live.results.open(owner, on_done=completions.add)
    ids = _sequence_ids(result, count)
    sampler.replays.add(call.seq_id, body, (result, ids))
    live.waiting_samples += count
    live.spawn(_sample(live, sampler, call, result, count))
    return result, ids


async def _sample(live: Live, sampler: Sampler, call: Asample, result: Result, count: int) -> None:
    async def draw(ask: Asked) -> SampleResponse:
        async with live.weights.used(sampler.source.weights) as session:
            return await live.served.sampling.sample(
                session,
                ask.prompt,
                num_samples=ask.num_samples,
                params=ask.params,
                prompt_logprobs=ask.prompt_logprobs,
                report=ask.report,
            )

    async def work() -> Payload:
        ask = asked(call, sampler, live.limits)
        async with live.line.place(sampler.session.session_id, ask.num_samples):
            if result.done or sampler.session.ended:  # while it waited
                raise Refusal(410, "the request was cancelled, or its session has ended")
            response = await draw(ask)
        live.served.meters.tokens_prompted += ask.prompt.length
        live.served.meters.tokens_sampled += sum(len(sequence.tokens) for sequence in response.sequences)
        body = write_sample_response(
            response,
            topk_prompt=call.topk_prompt_logprobs,
            topk_sample=call.topk_sample_logprobs,
            target_cells=ask.target_cells,
        )
        return Payload(body=body, media_type=PROTOBUF)

    try:
        await fill(live, result, work())
    finally:
        live.waiting_samples -= count


async def _create(live: Live, session: Session, call: CreateSamplingSession, body: bytes) -> Sampler:
    """The sampling session, when its weights are open; the same asked for twice is made once."""
    number = call.sampling_session_seq_id
    task = session.openings.find(number, body)
    if task is None:
        task = session.openings.add(number, body, asyncio.create_task(_make(live, session, call)))
    try:
        return await asyncio.shield(task)
    except Exception:
        session.openings.forget(number)
        raise


async def _make(live: Live, session: Session, call: CreateSamplingSession) -> Sampler:
    number = call.sampling_session_seq_id
    if call.model_path is not None:
        return await saved_sampler(live, session, number, call.model_path, call.base_model)
    if call.base_model is not None:
        return await base_sampler(live, session, number, call.base_model)
    raise ValueError("create_sampling_session takes a base_model or a model_path")


def _sequence_ids(result: Result, count: int) -> list[str]:
    return [f"{result.request_id}:{place}" for place in range(count)]
