"""How does a sampling session come to be? On a base model, on saved weights, or on a run's weights as they are now."""

import secrets

from crucible.server.live import Live
from crucible.server.making import base_model_of, find_saved, reference_of
from crucible.server.opened import Weights
from crucible.server.refusals import Refusal
from crucible.server.sessions import Run, Sampler, Session, Source
from crucible.store.server_records import SamplerRecord


def sampler_id_of(session: Session, number: int) -> str:
    """The sampling session's id."""
    return f"{session.session_id}:sample:{number}"


async def base_sampler(live: Live, session: Session, number: int, base_model: str) -> Sampler:
    """A sampling session on the base model itself.

    Raises:
        ModelError: if it is not served, or cannot be loaded.
        ValueError: if the number is taken.
    """
    reference = reference_of(live.served, base_model)
    _check_number(session, number)
    weights = await live.weights.own(reference, None)
    return await _add(live, session, number, base_model, None, Source(weights=weights))


async def saved_sampler(live: Live, session: Session, number: int, path: str, base_model: str | None) -> Sampler:
    """A sampling session on a checkpoint.

    Raises:
        CheckpointError: if there is none that the session's owner may see, or it is of another base model.
        ModelError: if its base model is not served.
        ValueError: if the number is taken.
    """
    _check_number(session, number)
    saved = await find_saved(live, path, session.owner)
    name = base_model_of(live.served, saved.source, base_model)
    weights = await live.weights.own(saved.source.reference, saved.engine_path)
    return await _add(live, session, number, name, path, Source(weights=weights))


async def snapshot_sampler(live: Live, run: Run, number: int) -> Sampler:
    """A sampling session on the run's weights, which later training cannot move. They go when it ends.

    Raises:
        ValueError: if the number is taken.
    """
    _check_number(run.session, number)
    weights = await _snapshot(live, run)
    return await _add(live, run.session, number, run.base_model, None, Source(weights=weights))


async def publish(live: Live, run: Run, number: int) -> Sampler:
    """A sampling session on the weights that the run published last: now, these. Those that were made so before
    sample from these as well, from their next request on.

    Raises:
        ValueError: if the number is taken.
    """
    _check_number(run.session, number)
    weights = await _snapshot(live, run)
    if run.inflight is None:
        run.inflight = Source(weights=weights)
    else:
        before, run.inflight.weights = run.inflight.weights, weights
        live.weights.disown(before)
    run.inflight.holders += 1
    return await _add(live, run.session, number, run.base_model, None, run.inflight)


async def _snapshot(live: Live, run: Run) -> Weights:
    training = live.served.training
    saved = await training.save_weights_for_sampler(run.training, secrets.token_hex(16))

    async def delete() -> None:
        await training.delete_checkpoint(saved.path)

    return await live.weights.own(run.training.model, saved.path, afterwards=delete)


async def _add(
    live: Live, session: Session, number: int, base_model: str, model_path: str | None, source: Source
) -> Sampler:
    """A sampling session that holds `source` already, which the store knows of."""
    try:
        facts = await live.facts(live.served.models[base_model])
        if session.ended:
            raise Refusal(410, f"session {session.session_id} has ended")
        _check_number(session, number)
    except BaseException:
        live.drop(source)
        raise
    sampler = Sampler(
        sampler_id=sampler_id_of(session, number),
        session=session,
        base_model=base_model,
        model_path=model_path,
        source=source,
        context_length=None if facts is None else facts.context_length,
    )
    live.samplers[sampler.sampler_id] = session.samplers[sampler.sampler_id] = sampler
    record = SamplerRecord(
        sampler_id=sampler.sampler_id,
        owner=session.owner,
        session_id=session.session_id,
        base_model=base_model,
        model_path=model_path,
        created_at=live.served.clock(),
    )
    try:
        await live.in_thread(live.served.store.add_sampler, record)
    except BaseException:
        if live.samplers.get(sampler.sampler_id) is sampler:
            live.close_sampler(sampler)
        raise
    return sampler


def _check_number(session: Session, number: int) -> None:
    if number < 0 or sampler_id_of(session, number) in session.samplers:
        raise ValueError(f"this session has a sampling session of number {number} already, or it is below 0")
