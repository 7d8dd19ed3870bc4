"""Which stages come with the kitchen? `STAGES` lists them; an `experiment.json` names them by class name."""

from crucible.framework import Stage
from crucible.kitchen.stages.batching import GetBatch, RenderBatch, SetEpoch
from crucible.kitchen.stages.environment import BuildEnvironment, ClearRollouts, CloseGraders, StartGraders
from crucible.kitchen.stages.evaluating import Evaluate, ShowSample, Summarize
from crucible.kitchen.stages.examining import ExamineData
from crucible.kitchen.stages.examining_rl import ExamineEnvironment
from crucible.kitchen.stages.gap_alarm import CheckSamplerGap
from crucible.kitchen.stages.learning import (
    Assemble,
    BeginStep,
    ForwardBackwardPolicy,
    LearnFromMinibatches,
    PenalizeDistance,
    UpdatePolicy,
)
from crucible.kitchen.stages.loading import (
    BuildStreamedDataset,
    BuildSupervisedDataset,
    InitSession,
    InitTokenizer,
    LoadDataset,
    LoadWeights,
    OpenStream,
)
from crucible.kitchen.stages.measuring import EvaluateEnvironment
from crucible.kitchen.stages.recording import RecordTokens
from crucible.kitchen.stages.reporting import LogRLMetrics, RecordLearned, SummarizeRL
from crucible.kitchen.stages.sampling import (
    AwaitRollouts,
    BeginLiveWork,
    ClosePolicies,
    CloseReference,
    FirstPolicy,
    OpenReference,
    RecordRollouts,
    SavePolicy,
    StartRollouts,
)
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
    Assemble,
    AwaitFuture,
    AwaitRollouts,
    BeginLiveWork,
    BeginStep,
    BuildEnvironment,
    BuildStreamedDataset,
    BuildSupervisedDataset,
    CheckSamplerGap,
    ClearRollouts,
    CloseGraders,
    ClosePolicies,
    CloseReference,
    CloseSession,
    Evaluate,
    EvaluateEnvironment,
    ExamineData,
    ExamineEnvironment,
    FinishEpoch,
    FirstPolicy,
    ForwardBackward,
    ForwardBackwardPolicy,
    GetBatch,
    InitSession,
    InitTokenizer,
    LearnFromMinibatches,
    LoadDataset,
    LoadWeights,
    LogRLMetrics,
    LogStepMetrics,
    OpenReference,
    OpenStream,
    OptimStep,
    PenalizeDistance,
    RecordLearned,
    RecordRollouts,
    RecordTokens,
    RenderBatch,
    SaveCheckpoint,
    SaveFinalWeights,
    SaveNowAndThen,
    SavePolicy,
    SetEpoch,
    ShowSample,
    StartClock,
    StartGraders,
    StartRollouts,
    Summarize,
    SummarizeRL,
    UpdatePolicy,
)
