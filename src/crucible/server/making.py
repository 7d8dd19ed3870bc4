"""How does a run come to be? New on a base model, or from a checkpoint."""

import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from crucible.errors import CheckpointError, ModelError, UnsupportedError, did_you_mean
from crucible.ports.training_client import SessionConfig, TrainingSession
from crucible.server.answers import no_checkpoint
from crucible.server.live import Live
from crucible.server.refusals import Refusal
from crucible.server.requests import Lora, Optimizer
from crucible.server.served import Served
from crucible.server.sessions import Run, Session
from crucible.server.tinker_path import parse_path
from crucible.server.turns import Turns
from crucible.store.server_records import CheckpointRecord, RunRecord

MOST_RANK = 4096
_FLAGS = ("train_attn", "train_mlp", "train_unembed")


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint that may be loaded, the path that the ports load it from, and the run it was saved from."""

    record: CheckpointRecord
    engine_path: str
    source: RunRecord


@dataclass(frozen=True, kw_only=True)
class Restore:
    """What a new run begins with: as of `TrainingClient.load_checkpoint`."""

    path: str
    optimizer: bool
    digest: str


def run_id_of(session: Session, model_seq_id: int) -> str:
    """The run's id, which the SDK works out by itself as well."""
    return f"{session.session_id}:train:{model_seq_id}"


def reference_of(served: Served, base_model: str) -> str:
    """What the ports call a base model.

    Raises:
        ModelError: if it is not served.
    """
    reference = served.models.get(base_model)
    if reference is None:
        raise ModelError.of(
            "this server does not serve that base model",
            given=base_model[:200],
            fix=f"Ask for one of: {', '.join(sorted(served.models))} ({did_you_mean(base_model, served.models)})",
        )
    return reference


def new_lora(reference: str, lora: Lora | None) -> SessionConfig:
    """The port's configuration of a new adapter; without a seed one is drawn.

    Raises:
        UnsupportedError: if it is not LoRA.
        ValueError: if a setting is out of range.
    """
    if lora is None:
        raise UnsupportedError.of("training all of a model's weights is not supported", fix="Give a lora_config")
    if not 1 <= lora.rank <= MOST_RANK:
        raise ValueError(f"lora_config.rank is {lora.rank}: from 1 to {MOST_RANK}")
    if lora.seed is not None and lora.seed < 0:
        raise ValueError(f"lora_config.seed is {lora.seed}: 0 or more")
    if not (lora.train_attn or lora.train_mlp or lora.train_unembed):
        raise ValueError(
            "lora_config: nothing is to be trained: one of train_attn, train_mlp and train_unembed must be"
        )
    return SessionConfig(
        model=reference,
        lora_rank=lora.rank,
        seed=secrets.randbelow(1 << 31) if lora.seed is None else lora.seed,
        train_attn=lora.train_attn,
        train_mlp=lora.train_mlp,
        train_unembed=lora.train_unembed,
    )


def check_optimizer(optimizer: Optimizer | None) -> None:
    """Refuse an optimizer that is not ours, by name.

    Raises:
        UnsupportedError: if it is not adamw.
    """
    if optimizer is not None and optimizer.type != "adamw":
        raise UnsupportedError.of("this server's optimizer is adamw", given=optimizer.type[:100])


async def make_run(
    live: Live,
    session: Session,
    model_seq_id: int,
    base_model: str,
    config: SessionConfig,
    metadata: Mapping[str, Any],
    *,
    restore: Restore | None = None,
) -> Run:
    """A run with a fresh adapter, or a checkpoint's, which the store knows of.

    Raises:
        Refusal: if its key has as many models open as it may, or its session has ended.
        Whatever the port raises.
    """
    mine = [each for each in live.sessions.values() if each.owner == session.owner]
    if sum(len(each.runs) + each.starting for each in mine) >= live.limits.max_models:
        raise Refusal(
            429, f"as many models are open as may be ({live.limits.max_models}): end a session", category="server"
        )
    session.starting += 1
    try:
        port = live.served.training

        async def start() -> TrainingSession:
            return await port.start_session(config)

        training = await live.capacity.when_it_fits(start, make_room=live.weights.close_idle)
        try:
            if restore is not None:
                await port.load_checkpoint(training, restore.path, optimizer=restore.optimizer, digest=restore.digest)
            run = await _described(live, session, model_seq_id, base_model, training)
            await live.in_thread(live.served.store.add_run, _record(live, run, config, metadata))
            if session.ended:
                raise Refusal(410, f"session {session.session_id} has ended")
        except BaseException:
            await port.close_session(training)
            raise
    finally:
        session.starting -= 1
    live.runs[run.run_id] = session.runs[run.run_id] = run
    return run


async def find_saved(live: Live, path: str, owner: str) -> Saved:
    """The checkpoint of this path, ready to be loaded.

    Raises:
        CheckpointError: if there is none that the owner may see, it is for other programs, or its files are gone.
    """
    parsed = parse_path(path)
    if parsed.kind == "external_weights":
        raise CheckpointError.of("an export for other programs cannot be loaded here", given=path[:300])
    store = live.served.store
    record = await live.in_thread(store.checkpoint, parsed.run_id, parsed.kind, parsed.name, owner=owner)
    if record is None:
        raise no_checkpoint(path)
    source = await live.in_thread(store.run_of, record)
    return Saved(record=record, engine_path=await live.in_thread(live.served.vault.open, record), source=source)


def base_model_of(served: Served, source: RunRecord, asked: str | None) -> str:
    """The public name of a checkpoint's base model, as it is served now.

    Raises:
        ModelError: if it is not served any more.
        CheckpointError: if another one was asked for.
    """
    if asked is not None and reference_of(served, asked) != source.reference:
        raise CheckpointError.of(
            f"the checkpoint is of {source.base_model}", given=asked[:200], fix="Leave base_model out"
        )
    if asked is not None:
        return asked
    if served.models.get(source.base_model) == source.reference:
        return source.base_model
    for name, reference in served.models.items():
        if reference == source.reference:
            return name
    raise ModelError.of("the checkpoint's base model is not served", given=source.base_model)


def like(source: RunRecord) -> SessionConfig:
    """The configuration that a checkpoint's run was made with."""
    return SessionConfig(
        model=source.reference,
        lora_rank=int(source.lora["rank"]),
        lora_alpha=float(source.lora["alpha"]),
        seed=int(source.lora["seed"]),
        train_attn=bool(source.lora["train_attn"]),
        train_mlp=bool(source.lora["train_mlp"]),
        train_unembed=bool(source.lora["train_unembed"]),
    )


async def _described(
    live: Live, session: Session, model_seq_id: int, base_model: str, training: TrainingSession
) -> Run:
    facts = await live.facts(training.model)
    return Run(
        run_id=run_id_of(session, model_seq_id),
        session=session,
        base_model=base_model,
        training=training,
        arch=None if facts is None else facts.model_type,
        tokenizer_id=await live.in_thread(live.served.tokenizer_folder, training.model),
        turns=Turns(patience=live.limits.missing_request_timeout),
        used_at=live.clock(),
    )


def _record(live: Live, run: Run, config: SessionConfig, metadata: Mapping[str, Any]) -> RunRecord:
    now = live.served.clock()
    lora = {name: value for name, value in asdict(config).items() if name in _FLAGS}
    return RunRecord(
        run_id=run.run_id,
        owner=run.session.owner,
        session_id=run.session.session_id,
        base_model=run.base_model,
        reference=config.model,
        lora={"rank": config.lora_rank, "alpha": config.lora_alpha, "seed": config.seed, **lora},
        created_at=now,
        last_request_at=now,
        user_metadata=dict(metadata),
    )
