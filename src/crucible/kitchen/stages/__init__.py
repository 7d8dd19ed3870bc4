"""Which stages come with the kitchen? `STAGES` lists them; an `experiment.json` names them by class name."""

from crucible.framework import Stage
from crucible.kitchen.stages.batching import GetBatch, RenderBatch, SetEpoch
from crucible.kitchen.stages.evaluating import Evaluate, ShowSample, Summarize
from crucible.kitchen.stages.examining import ExamineData
from crucible.kitchen.stages.loading import (
    BuildStreamedDataset,
    BuildSupervisedDataset,
    InitSession,
    InitTokenizer,
    LoadDataset,
    LoadWeights,
    OpenStream,
)
from crucible.kitchen.stages.recording import RecordTokens
from crucible.kitchen.stages.saving import CloseSession, SaveCheckpoint, SaveFinalWeights, SaveNowAndThen
from crucible.kitchen.stages.updating import (
    AwaitFuture,
    FinishEpoch,
    ForwardBackward,
    LogStepMetrics,
    OptimStep,
    StartClock,
)

STAGES: tuple[type[Stage], ...] = (
    AwaitFuture,
    BuildStreamedDataset,
    BuildSupervisedDataset,
    CloseSession,
    Evaluate,
    ExamineData,
    FinishEpoch,
    ForwardBackward,
    GetBatch,
    InitSession,
    InitTokenizer,
    LoadDataset,
    LoadWeights,
    LogStepMetrics,
    OpenStream,
    OptimStep,
    RecordTokens,
    RenderBatch,
    SaveCheckpoint,
    SaveFinalWeights,
    SaveNowAndThen,
    SetEpoch,
    ShowSample,
    StartClock,
    Summarize,
)
