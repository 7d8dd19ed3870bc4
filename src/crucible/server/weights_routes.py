"""How are a model's weights saved and loaded over HTTP?"""

import secrets
from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from crucible.errors import UnsupportedError
from crucible.server.answers import answered
from crucible.server.bodies import decode_json, read_body
from crucible.server.checkpoint_records import check_free, completed, planned
from crucible.server.external_weights import keep_external
from crucible.server.futures import MakeTurn, alone, promise, queue, refused, take_turn
from crucible.server.live import Live
from crucible.server.making import Restore, base_model_of, check_optimizer, find_saved, like, make_run
from crucible.server.refusals import Refusal
from crucible.server.requests import LoadWeights, SaveWeights, SaveWeightsExternal, SaveWeightsForSampler
from crucible.server.results import Payload
from crucible.server.samplers import publish, snapshot_sampler
from crucible.server.sessions import Run, Session
from crucible.server.training_routes import begin_run


def routes(live: Live) -> list[Route]:
    """The endpoints, without their prefix."""

    async def save_weights(request: Request) -> Response:
        return await take_turn(live, request, SaveWeights, partial(_saving, live))

    async def save_weights_for_sampler(request: Request) -> Response:
        return await take_turn(live, request, SaveWeightsForSampler, partial(_saving_for_sampler, live))

    async def save_weights_external(request: Request) -> Response:
        return await take_turn(live, request, SaveWeightsExternal, partial(_saving_external, live))

    async def load_weights(request: Request) -> Response:
        owner: str = request.state.owner
        body = await read_body(request, live.limits)
        call = decode_json(body, LoadWeights)
        if call.session_id is not None and call.model_seq_id is not None and call.model_id is None:
            session, number = await live.session(call.session_id, owner), call.model_seq_id
            return promise(begin_run(live, session, number, body, lambda: _new_from(live, session, number, call)))
        if call.model_id is None or call.seq_id is None or call.session_id is not None:
            raise Refusal(400, "load_weights takes either model_id and seq_id, or session_id and model_seq_id")
        run = await live.run(call.model_id, owner)
        return promise(queue(live, run, call.seq_id, body, alone(live, lambda: _load(live, run, call))), run)

    endpoints = {
        "/save_weights": save_weights,
        "/save_weights_for_sampler": save_weights_for_sampler,
        "/save_weights_external": save_weights_external,
        "/load_weights": load_weights,
    }
    return [Route(path, answered(endpoint), methods=["POST"]) for path, endpoint in endpoints.items()]


def _saving(live: Live, call: SaveWeights, run: Run) -> MakeTurn:
    async def work() -> Payload:
        record = planned(live, run, "weights", call.path or f"checkpoint-{call.seq_id}", call)
        if not call.overwrite:
            await check_free(live, record)
        saved = await live.served.training.save_checkpoint(run.training, secrets.token_hex(16))
        kept = await live.in_thread(live.served.vault.keep, saved)
        done = completed(record, saved, kept, optimizer=True)
        await live.in_thread(live.served.vault.record, done, overwrite=call.overwrite)
        return Payload.of({"path": done.tinker_path, "type": "save_weights"})

    return alone(live, work)


def _saving_for_sampler(live: Live, call: SaveWeightsForSampler, run: Run) -> MakeTurn:
    async def named(name: str) -> Payload:
        record = planned(live, run, "sampler_weights", name, call)
        await check_free(live, record)
        saved = await live.served.training.save_weights_for_sampler(run.training, secrets.token_hex(16))
        kept = await live.in_thread(live.served.vault.keep, saved)
        done = completed(record, saved, kept, optimizer=False)
        await live.in_thread(live.served.vault.record, done)
        return Payload.of({"path": done.tinker_path, "type": "save_weights_for_sampler"})

    async def unnamed(number: int) -> Payload:
        make = publish if call.kind == "inflight" else snapshot_sampler
        sampler = await make(live, run, number)
        told = {"path": None, "sampling_session_id": sampler.sampler_id, "type": "save_weights_for_sampler"}
        return Payload.of(told)

    name, number = call.path, call.sampling_session_seq_id
    if call.kind not in ("snapshot", "inflight"):
        return refused(live, UnsupportedError.of("a sampler is of kind snapshot or inflight", given=call.kind[:100]))
    if name is not None and number is None:
        return alone(live, lambda: named(name))
    if number is not None and name is None:
        return alone(live, lambda: unnamed(number))
    return refused(live, ValueError("save_weights_for_sampler takes either path or sampling_session_seq_id"))


def _saving_external(live: Live, call: SaveWeightsExternal, run: Run) -> MakeTurn:
    async def work() -> Payload:
        record = planned(live, run, "external_weights", call.path, call)
        await check_free(live, record)
        training = live.served.training
        saved = await training.save_weights_for_sampler(run.training, secrets.token_hex(16))
        try:
            kept = await live.in_thread(keep_external, live.served, saved, reference=run.training.model)
        finally:
            await training.delete_checkpoint(saved.path)
        done = completed(record, saved, kept, optimizer=False)
        await live.in_thread(live.served.vault.record, done)
        told = {"path": done.tinker_path, "size_bytes": kept.size_bytes, "type": "save_weights_external"}
        return Payload.of(told)

    if call.age_encryption_recipients:
        return refused(live, UnsupportedError.of("encrypting an export (age_encryption_recipients) is not supported"))
    return alone(live, work)


async def _load(live: Live, run: Run, call: LoadWeights) -> Payload:
    _check_plain(call)
    saved = await find_saved(live, call.path, run.session.owner)
    base_model_of(live.served, saved.source, call.base_model)
    await live.served.training.load_checkpoint(
        run.training, saved.engine_path, optimizer=call.optimizer, digest=saved.record.digest
    )
    return _loaded(run, call.path)


async def _new_from(live: Live, session: Session, model_seq_id: int, call: LoadWeights) -> Payload:
    _check_plain(call)
    saved = await find_saved(live, call.path, session.owner)
    base_model = base_model_of(live.served, saved.source, call.base_model)
    restore = Restore(path=saved.engine_path, optimizer=call.optimizer, digest=saved.record.digest)
    config, metadata = like(saved.source), call.user_metadata or {}
    run = await make_run(live, session, model_seq_id, base_model, config, metadata, restore=restore)
    return _loaded(run, call.path)


def _check_plain(call: LoadWeights) -> None:
    check_optimizer(call.optimizer_config)
    if call.weights_access_token is not None:
        raise UnsupportedError.of("weights_access_token is not supported", fix="Publish the checkpoint instead")


def _loaded(run: Run, path: str) -> Payload:
    return Payload.of({"path": path, "model_id": run.run_id, "type": "load_weights"})
