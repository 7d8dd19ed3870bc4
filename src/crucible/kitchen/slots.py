"""Which values flow through a supervised run, and how does each survive a restart?

`Durable` values are written to a checkpoint; `Rebuilt` ones follow from config and data.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from crucible.framework import Durable, Rebuilt, Slot
from crucible.kitchen import codecs as codecs
from crucible.ports.dataset_store import RowSet, RowStream
from crucible.ports.future import Future
from crucible.ports.tokenizer import Tokenizer
from crucible.ports.training_client import ForwardBackwardOutput, OptimStepOutput, TrainingSession
from crucible.train.data import BatchRows, RenderedBatch, SupervisedDataset, TrainingData


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What training has cost so far. seconds: wall time of the steps; the rest are counts."""

    steps: int = 0
    tokens: int = 0
    trained_tokens: int = 0
    rows_dropped: int = 0
    rows_truncated: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StepStart:
    """One step as it is submitted. learning_rate: of its optimizer step; at: `time.perf_counter()` seconds."""

    step: int
    epoch: int
    learning_rate: float
    at: float


TRAIN_ROWS = Slot("train_rows", RowSet, Rebuilt(by="load_dataset"))
TRAIN_STREAM = Slot("train_stream", RowStream, Rebuilt(by="load_dataset"))
HELDOUT_ROWS = Slot("heldout_rows", RowSet, Rebuilt(by="load_dataset"))
SESSION = Slot("session", TrainingSession, Durable("session"))
STEP = Slot("step", int, Durable("json"))
TOKENS = Slot("tokens", int, Durable("json"))
TOTALS = Slot("totals", Totals, Durable("json"))
SETTLED_AT = Slot("settled_at", float, Rebuilt(by="start_clock", afresh=True))
SAVED_AT = Slot("saved_at", float, Rebuilt(by="start_saving_clock", afresh=True))
TOKENIZER = Slot("tokenizer", Tokenizer, Rebuilt(by="init_tokenizer"))
DATASET = Slot("dataset", TrainingData, Rebuilt(by="build_dataset"))
HELDOUT = Slot("heldout", SupervisedDataset, Rebuilt(by="build_dataset"))
TOTAL_STEPS = Slot("total_steps", int, Rebuilt(by="build_dataset"))
EPOCH = Slot("epoch", int, Rebuilt(by="epochs"))
BATCHES = Slot[Iterable[BatchRows]]("batches", Iterable, Rebuilt(by="set_epoch"))  # pyright: ignore[reportArgumentType]  (a generic alias is no class)
BATCH_ROWS = Slot("batch_rows", BatchRows, Rebuilt(by="batches"))
STEP_START = Slot("step_start", StepStart, Rebuilt(by="get_batch"))
BATCH = Slot("batch", RenderedBatch, Rebuilt(by="render_batch"))
FB_FUTURE = Slot[Future[ForwardBackwardOutput]]("fb_future", Future, Rebuilt(by="forward_backward"))
FB_RESULT = Slot("fb_result", ForwardBackwardOutput, Rebuilt(by="await_fb"))
OPTIM_FUTURE = Slot[Future[OptimStepOutput]]("optim_future", Future, Rebuilt(by="optim_step"))
OPTIM_RESULT = Slot("optim_result", OptimStepOutput, Rebuilt(by="await_optim"))

AnySlot = Slot[Any]
