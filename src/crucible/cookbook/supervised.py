"""Which recipes fine-tune on demonstrations?"""

from collections.abc import Iterable, Mapping

from crucible.cookbook.datasets import choose
from crucible.cookbook.supervised_config import ChatConfig, SupervisedConfig
from crucible.errors import ConfigError, Problem
from crucible.framework import Workflow
from crucible.kitchen import slots
from crucible.kitchen.recipe import Recipe
from crucible.kitchen.stages.loading import LoadDataset, OpenStream
from crucible.kitchen.workflows.evaluation import evaluation
from crucible.kitchen.workflows.supervised import supervised
from crucible.kitchen.workflows.training import checkpoint_problems, warmup_problems

PRESETS: Mapping[str, Mapping[str, object]] = {
    "laptop": {},
    "demo": {"max_steps": 56, "eval_rows": 24, "learning_rate": 5e-4, "warmup_steps": 4, "max_length": 512},
    "seed": {
        "model": "meta-llama/Llama-3.1-8B",
        "dataset": "no_robots",
        "batch_size": 128,
        "learning_rate": 2e-4,
        "lora_rank": 32,
        "max_length": 32768,
        "save_every": 20,
    },
    "small": {
        "model": "meta-llama/Llama-3.2-1B",
        "dataset": "no_robots",
        "batch_size": 16,
        "learning_rate": 1e-5,
        "max_length": 4096,
    },
}
"""laptop: the packaged SmolLM2-135M on packaged data. demo: the same in about five minutes. seed and small: the
values of the seed documents, for a GPU or a hosted service."""


def _load(config: SupervisedConfig, *, eval_dataset: str = "") -> LoadDataset | OpenStream:
    chosen = choose(config.dataset)
    heldout_reference, heldout_split = _heldout(config, eval_dataset)
    if config.streaming:
        return OpenStream(
            "load_dataset",
            reference=chosen.reference,
            split=chosen.split,
            heldout_reference=heldout_reference,
            heldout_split=heldout_split,
            holdout=config.eval_rows,
            limit=config.limit,
            rows=slots.TRAIN_STREAM,
            heldout=slots.HELDOUT_ROWS,
        )
    return LoadDataset(
        "load_dataset",
        reference=chosen.reference,
        split=chosen.split,
        heldout_reference=heldout_reference,
        heldout_split=heldout_split,
        holdout=config.eval_rows,
        limit=config.limit,
        seed=config.seed,
        rows=slots.TRAIN_ROWS,
        heldout=slots.HELDOUT_ROWS,
    )


def _heldout(config: SupervisedConfig, eval_dataset: str) -> tuple[str, str]:
    """Where held-out rows come from and their split; two empty texts where they are drawn from the training rows."""
    if not config.eval_rows:
        return "", ""
    if not eval_dataset:
        return "", choose(config.dataset).heldout_split
    chosen = choose(eval_dataset)
    return chosen.reference, chosen.heldout_split or chosen.split


def _sl_basic(config: SupervisedConfig) -> Workflow:
    return supervised(config, load=_load(config), row_format=choose(config.dataset).row_format)


def _chat_sl(config: ChatConfig) -> Workflow:
    return supervised(
        config,
        load=_load(config, eval_dataset=config.eval_dataset),
        row_format=choose(config.dataset).row_format,
        bits_per_byte=True,
    )


def _sl_basic_evaluation(config: SupervisedConfig, checkpoint: str) -> Workflow:
    _require_rows(config)
    row_format = choose(config.dataset).row_format
    return evaluation(config, load=_load(config), checkpoint=checkpoint, row_format=row_format)


def _chat_sl_evaluation(config: ChatConfig, checkpoint: str) -> Workflow:
    _require_rows(config)
    load = _load(config, eval_dataset=config.eval_dataset)
    return evaluation(config, load=load, checkpoint=checkpoint, row_format=choose(config.dataset).row_format)


def _require_rows(config: SupervisedConfig) -> None:
    if not config.eval_rows:
        raise ConfigError.of("must be at least 1: there would be nothing to measure", where="eval_rows", given="0")


def _validate(config: SupervisedConfig) -> Iterable[Problem]:
    evaluated = config.eval_rows > 0 and (
        config.eval_every == 1
        or (config.eval_every > 1 and not config.save_every_tokens and config.save_every % config.eval_every == 0)
    )
    yield from checkpoint_problems(
        config,
        saves=bool(config.save_every or config.save_every_tokens),
        evaluated=evaluated,
        how=" (by tokens: eval_every=1), with eval_rows",
    )
    if config.max_steps is not None and config.max_steps < 1:
        yield Problem(what="must be at least 1, or None for all steps", where="max_steps", given=str(config.max_steps))
    if config.limit is not None and config.limit < 1:
        yield Problem(what="must be at least 1, or None for all rows", where="limit", given=str(config.limit))
    if config.streaming and config.max_steps is None and config.epochs > 1:
        yield Problem(
            what="several passes over a stream have no known last step",
            where="streaming",
            fix="Give max_steps, or epochs=1",
        )
    if config.gradient_accumulation_steps > config.batch_size:
        yield Problem(
            what="is more than batch_size: a call would have no row",
            where="gradient_accumulation_steps",
            given=str(config.gradient_accumulation_steps),
            fix=f"Give at most {config.batch_size}, or raise batch_size",
        )
    yield from warmup_problems(config)


SL_BASIC = Recipe(
    name="sl_basic",
    description="Supervised fine-tuning with LoRA on one data set",
    config=SupervisedConfig,
    workflow=_sl_basic,
    presets=PRESETS,
    default_preset="laptop",
    validate=_validate,
    needs="a base model and rows of questions and answers or messages",
    evaluation=_sl_basic_evaluation,
)

CHAT_SL = Recipe(
    name="chat_sl",
    description="Supervised fine-tuning on multi-turn conversations, with NLL and bits per byte on held-out ones",
    config=ChatConfig,
    workflow=_chat_sl,
    presets={**PRESETS, "seed": {**PRESETS["seed"], "dataset": "tulu3", "eval_dataset": "no_robots"}},
    default_preset="laptop",
    validate=_validate,
    needs="a base model and a file of conversations",
    evaluation=_chat_sl_evaluation,
)
