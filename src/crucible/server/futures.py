"""How does a request become a future? A place for its outcome, and work that fills it."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeAlias, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from crucible.ports.future import Future
from crucible.server.answers import answer
from crucible.server.bodies import decode_json, read_body
from crucible.server.live import Live
from crucible.server.refusals import Refusal, failure_of
from crucible.server.requests import ModelCall
from crucible.server.results import Payload, Result
from crucible.server.sessions import Run
from crucible.server.turns import Turn

T = TypeVar("T")
C = TypeVar("C", bound=ModelCall)
MakeTurn: TypeAlias = Callable[[Result], Turn]


def failed(live: Live, owner: str, error: Exception) -> Result:
    """A request that cannot be done: its future says why."""
    result = live.results.open(owner)
    live.results.fail(result, failure_of(error))
    return result


async def fill(live: Live, result: Result, work: Awaitable[Payload]) -> None:
    """Do the work; what it raises is the outcome."""
    try:
        payload = await work
    except Exception as error:  # noqa: BLE001  (the future carries it to its client)
        live.results.fail(result, failure_of(error))
    else:
        live.results.finish(result, payload)


def promise(result: Result, run: Run | None = None) -> Response:
    """The answer to a request that was taken: where its outcome will be."""
    told = {"request_id": result.request_id}
    return answer(told if run is None else {**told, "model_id": run.run_id})


async def take_turn(live: Live, request: Request, kind: type[C], turn: Callable[[C, Run], MakeTurn]) -> Response:
    """Read a request to a model, and put it into the model's line.

    One whose number can be read and the rest cannot uses up its number: the requests after it have their turn.

    Raises:
        Refusal: if not even that can be read, or there is no such model.
    """
    body = await read_body(request, live.limits)
    try:
        call: ModelCall = decode_json(body, kind)
        wrong = None
    except Refusal as refusal:
        call, wrong = decode_json(body, ModelCall), refusal
    run = await live.run(call.model_id, request.state.owner)
    made = turn(call, run) if isinstance(call, kind) else refused(live, ValueError(str(wrong)))
    return promise(queue(live, run, call.seq_id, body, made), run)


def queue(live: Live, run: Run, seq_id: int, body: bytes, turn: MakeTurn) -> Result:
    """Put a request into its model's line, unless it was sent before.

    Raises:
        Refusal: 400 if it has no number; 429 if too many wait already.
    """
    if seq_id < 1:
        raise Refusal(400, f"seq_id is {seq_id}: the first one is 1")
    try:
        result = run.replays.find(seq_id, body)
    except ValueError as error:
        return failed(live, run.session.owner, error)
    if result is not None:
        return result
    if run.turns.pending >= live.limits.max_waiting_training and seq_id != run.turns.next:
        raise Refusal(429, f"{run.turns.pending} requests wait for this model already", category="server")
    result = run.replays.add(seq_id, body, live.results.open(run.session.owner))
    run.turns.offer(seq_id, turn(result))
    return result


def quick(live: Live, submit: Callable[[], Future[T]], write: Callable[[T], Awaitable[Payload]]) -> MakeTurn:
    """A turn that is one call of the port: the next one may be submitted before it has ended."""

    def make(result: Result) -> Turn:
        def begin() -> Coroutine[object, object, None]:
            try:
                future = submit()
            except Exception as error:  # noqa: BLE001  (the future carries it to its client)
                return _fail(live, result, error)
            return fill(live, result, _written(future, write))

        return Turn(begin=begin, alone=False, give_up=_giving_up(live, result))

    return make


def refused(live: Live, error: Exception) -> MakeTurn:
    """A turn of a request that cannot be done."""

    def make(result: Result) -> Turn:
        return Turn(begin=lambda: _fail(live, result, error), alone=False, give_up=_giving_up(live, result))

    return make


def alone(live: Live, work: Callable[[], Awaitable[Payload]]) -> MakeTurn:
    """A turn of several steps, which nothing of this model comes between."""

    def make(result: Result) -> Turn:
        return Turn(begin=lambda: fill(live, result, work()), alone=True, give_up=_giving_up(live, result))

    return make


async def _written(future: Future[T], write: Callable[[T], Awaitable[Payload]]) -> Payload:
    return await write(await future)


async def _fail(live: Live, result: Result, error: Exception) -> None:
    live.results.fail(result, failure_of(error))


def _giving_up(live: Live, result: Result) -> Callable[[Refusal], None]:
    return lambda reason: live.results.fail(result, failure_of(reason))
