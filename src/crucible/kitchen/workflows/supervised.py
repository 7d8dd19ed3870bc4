"""How does supervised fine-tuning go, stage by stage?"""

from typing import Any, Protocol

from crucible.framework import Compare, Condition, Every, Loop, Named, Node, Or, Range, When, Workflow
from crucible.kitchen import slots as s
from crucible.kitchen.stages.batching import GetBatch, RenderBatch, SetEpoch
from crucible.kitchen.stages.evaluating import Evaluate, ShowSample, Summarize
from crucible.kitchen.stages.examining import ExamineData
from crucible.kitchen.stages.loading import (
    BuildStreamedDataset,
    BuildSupervisedDataset,
    InitTokenizer,
    LoadDataset,
    OpenStream,
)
from crucible.kitchen.stages.recording import RecordTokens
from crucible.kitchen.stages.saving import TOKENS_PASSED, CloseSession, SaveFinalWeights, SaveNowAndThen
from crucible.kitchen.stages.updating import (
    AwaitFuture,
    FinishEpoch,
    ForwardBackward,
    LogStepMetrics,
    OptimStep,
)
from crucible.kitchen.workflows.training import TrainingSettings, init_session, save_checkpoint, start_clocks


class SupervisedSettings(TrainingSettings, Protocol):
    """What the supervised workflow must be told beside it."""

    @property
    def train_on(self) -> str: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def max_length(self) -> int: ...
    @property
    def save_every_tokens(self) -> int: ...
    @property
    def shuffle_buffer(self) -> int: ...
    @property
    def pipeline_depth(self) -> int: ...


def supervised(
    settings: SupervisedSettings,
    *,
    load: LoadDataset | OpenStream,
    row_format: str = "auto",
    bits_per_byte: bool = False,
) -> Workflow:
    """Load, train over epochs and batches, evaluate before and after, save.

    load: the stage that reads the rows; it writes `TRAIN_ROWS` (`OpenStream`: `TRAIN_STREAM`) and `HELDOUT_ROWS`.
    """
    evaluate = _evaluation(bits_per_byte)
    stop = None if settings.max_steps is None else Compare(s.STEP, ">=", settings.max_steps)
    batches = Loop(
        "batches",
        over=s.BATCHES,
        bind=s.BATCH_ROWS,
        depth=settings.pipeline_depth,
        until=stop,
        body=[*_submit(settings), *_now_and_then(settings, evaluate)],
        settle=_settle(settings),
    )
    epochs = Loop(
        "epochs",
        over=Range(settings.epochs),
        bind=s.EPOCH,
        until=stop,
        body=[
            SetEpoch("set_epoch", dataset=s.DATASET, epoch=s.EPOCH, batches=s.BATCHES),
            batches,
            FinishEpoch("finish_epoch", epoch=s.EPOCH, totals=s.TOTALS),
        ],
    )
    return Workflow(
        "supervised",
        description="Supervised fine-tuning with LoRA",
        body=[
            *prepare(settings, load=load, row_format=row_format, examine=True),
            evaluate("eval_before", "before"),
            ShowSample("sample_before", session=s.SESSION, heldout=s.HELDOUT, label="before"),
            *start_clocks(settings),
            epochs,
            SaveFinalWeights("save_final", session=s.SESSION, step=s.STEP),
            evaluate("eval_after", "after"),
            ShowSample("sample_after", session=s.SESSION, heldout=s.HELDOUT, label="after"),
            Summarize("summarize", totals=s.TOTALS),
            CloseSession("close_session", session=s.SESSION),
        ],
    )


def _evaluation(bits_per_byte: bool) -> "_EvaluateAt":
    def evaluate(name: str, label: str) -> Evaluate:
        return Evaluate(
            name,
            session=s.SESSION,
            heldout=s.HELDOUT,
            tokenizer=s.TOKENIZER,
            step=s.STEP,
            label=label,
            bits_per_byte=bits_per_byte,
        )

    return evaluate


def prepare(
    settings: SupervisedSettings, *, load: LoadDataset | OpenStream, row_format: str, examine: bool = False
) -> list[Node]:
    """Rows, tokenizer and data sets, then the session: what comes before anything is computed.

    examine: check the data before the model is loaded, and stop if a check fails.
    """
    gate = ExamineData(
        "examine_data",
        dataset=s.DATASET,
        heldout=s.HELDOUT,
        model=settings.model,
        learning_rate=settings.learning_rate,
        waive=settings.waive,
    )
    return [
        load,
        InitTokenizer("init_tokenizer", model=settings.model, tokenizer=s.TOKENIZER),
        _build(settings, load, row_format),
        *([gate] if examine else []),
        init_session(settings),
    ]


def _build(settings: SupervisedSettings, load: LoadDataset | OpenStream, row_format: str) -> Node:
    common: dict[str, Any] = {
        "heldout_rows": s.HELDOUT_ROWS,
        "tokenizer": s.TOKENIZER,
        "dataset": s.DATASET,
        "heldout": s.HELDOUT,
        "total_steps": s.TOTAL_STEPS,
        "renderer": settings.renderer,
        "train_on": settings.train_on,
        "row_format": row_format,
        "max_length": settings.max_length,
        "batch_size": settings.batch_size,
        "epochs": settings.epochs,
        "max_steps": settings.max_steps,
        "seed": settings.seed,
    }
    if isinstance(load, LoadDataset):
        return BuildSupervisedDataset("build_dataset", rows=s.TRAIN_ROWS, **common)
    return BuildStreamedDataset("build_dataset", rows=s.TRAIN_STREAM, shuffle_buffer=settings.shuffle_buffer, **common)


def _submit(settings: SupervisedSettings) -> list[Node]:
    """One step, submitted: its update is in flight when these stages are done."""
    return [
        GetBatch(
            "get_batch",
            step=s.STEP,
            epoch=s.EPOCH,
            total_steps=s.TOTAL_STEPS,
            into=s.STEP_START,
            learning_rate=settings.learning_rate,
            lr_schedule=settings.lr_schedule,
            warmup_steps=settings.warmup_steps,
        ),
        RenderBatch("render_batch", dataset=s.DATASET, rows=s.BATCH_ROWS, into=s.BATCH, tokens=s.TOKENS),
        ForwardBackward(
            "forward_backward",
            session=s.SESSION,
            batch=s.BATCH,
            into=s.FB_FUTURE,
            calls=settings.gradient_accumulation_steps,
        ),
        OptimStep(
            "optim_step",
            session=s.SESSION,
            batch=s.BATCH,
            start=s.STEP_START,
            into=s.OPTIM_FUTURE,
            weight_decay=settings.weight_decay,
            grad_clip_norm=settings.grad_clip_norm,
        ),
    ]


def _now_and_then(settings: SupervisedSettings, evaluate: "_EvaluateAt") -> list[Node]:
    """Checkpoints and evaluations, on the submitting side: they see this step's update and no later one."""
    nodes: list[Node] = []
    due: list[Condition] = []
    if settings.save_every:
        due.append(Every(settings.save_every, of=s.STEP))
    if settings.save_every_tokens:
        reads = {"tokens": s.TOKENS, "batch": s.BATCH}
        due.append(Named(TOKENS_PASSED, {"every": settings.save_every_tokens}, reads))
    if due:
        save = save_checkpoint(settings, epoch=s.EPOCH)
        nodes.append(When(due[0] if len(due) == 1 else Or(*due), [save]))
    if settings.save_every_seconds:
        nodes.append(SaveNowAndThen("save_now_and_then", saved_at=s.SAVED_AT, seconds=settings.save_every_seconds))
    if settings.eval_every:
        nodes.append(When(Every(settings.eval_every, of=s.STEP), [evaluate("evaluate", "during")]))
    return nodes


def _settle(settings: SupervisedSettings) -> list[Node]:
    """The same step, awaited, recorded and reported."""
    record = RecordTokens(
        "record_tokens",
        dataset=s.DATASET,
        start=s.STEP_START,
        batch=s.BATCH,
        result=s.FB_RESULT,
        every=settings.record_every,
    )
    return [
        AwaitFuture("await_fb", future=s.FB_FUTURE, into=s.FB_RESULT),
        *([record] if settings.record_every >= 0 else []),
        AwaitFuture("await_optim", future=s.OPTIM_FUTURE, into=s.OPTIM_RESULT),
        LogStepMetrics(
            "log_step_metrics",
            start=s.STEP_START,
            batch=s.BATCH,
            result=s.FB_RESULT,
            optim=s.OPTIM_RESULT,
            total_steps=s.TOTAL_STEPS,
            totals=s.TOTALS,
            settled_at=s.SETTLED_AT,
        ),
    ]


class _EvaluateAt(Protocol):
    def __call__(self, name: str, label: str) -> Evaluate: ...
