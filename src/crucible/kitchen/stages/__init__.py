"""Which stages come with the kitchen? `STAGES` lists them; an `experiment.json` names them by class name."""

from crucible.framework import Stage
from crucible.kitchen.stages.batching import GetBatch, RenderBatch, SetEpoch
from crucible.kitchen.stages.evaluating import Evaluate, ShowSample, Summarize
from crucible.kitchen.stages.loading import (
    BuildSupervisedDataset,
    InitSession,
    InitTokenizer,
    LoadDataset,
    LoadWeights,
)
from crucible.kitchen.stages.saving import CloseSession, SaveCheckpoint, SaveFinalWeights
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
    BuildSupervisedDataset,
    CloseSession,
    Evaluate,
    FinishEpoch,
    ForwardBackward,
    GetBatch,
    InitSession,
    InitTokenizer,
    LoadDataset,
    LoadWeights,
    LogStepMetrics,
    OptimStep,
    RenderBatch,
    SaveCheckpoint,
    SaveFinalWeights,
    SetEpoch,
    ShowSample,
    StartClock,
    Summarize,
)
