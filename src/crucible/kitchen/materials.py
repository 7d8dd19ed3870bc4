"""What is a supervised run made of, before anything is computed? Its rows and data sets, from its own stages."""

from dataclasses import dataclass
from typing import TypeVar

from crucible.errors import UnsupportedError
from crucible.framework import Stage, Workflow, stages_in
from crucible.kitchen.stages.loading import (
    LOOKED_AT,
    BuildStreamedDataset,
    BuildSupervisedDataset,
    InitSession,
    LoadDataset,
    OpenStream,
)
from crucible.ports import DatasetStore, TokenizerStore
from crucible.ports.dataset_store import RowSet, RowStream
from crucible.ports.tokenizer import Tokenizer
from crucible.ports.training_client import SessionConfig
from crucible.train.data import StreamedDataset, SupervisedDataset

S = TypeVar("S", bound=Stage)


@dataclass(frozen=True, kw_only=True, eq=False)
class Materials:
    """What the first stages of a supervised run make.

    dataset, heldout: over `rows` and `heldout_rows`. session: as the run starts it.
    """

    rows: RowSet | RowStream
    heldout_rows: RowSet
    tokenizer: Tokenizer
    dataset: SupervisedDataset | StreamedDataset
    heldout: SupervisedDataset
    session: SessionConfig


def gather(workflow: Workflow, *, datasets: DatasetStore, tokenizers: TokenizerStore) -> Materials:
    """Read what the workflow's own stages would read. Trains nothing, writes nothing.

    Raises:
        UnsupportedError: if the workflow is no supervised one.
        DataError, ModelError: as the run's own first stages.
    """
    load = only_stage(workflow, (LoadDataset, OpenStream))
    start = only_stage(workflow, (InitSession,))
    build = only_stage(workflow, (BuildSupervisedDataset, BuildStreamedDataset))
    rows, heldout_rows = load.read(datasets)
    tokenizer = tokenizers.load(start.model)
    if isinstance(rows, RowSet):
        head = dataset = build.over(rows, tokenizer)
    else:
        assert isinstance(build, BuildStreamedDataset), "a stream is built by the stage for streams"
        head = build.over(rows.head(LOOKED_AT), tokenizer)
        dataset = StreamedDataset(rows, like=head, shuffle_buffer=build.shuffle_buffer)
    return Materials(
        rows=rows,
        heldout_rows=heldout_rows,
        tokenizer=tokenizer,
        dataset=dataset,
        heldout=build.over(heldout_rows, tokenizer, row_format=head.row_format),
        session=start.config(),
    )


def only_stage(workflow: Workflow, kinds: tuple[type[S], ...]) -> S:
    """The workflow's one stage of these kinds.

    Raises:
        UnsupportedError: if it has none, or several.
    """
    found = [stage for stage in stages_in(workflow.body) if isinstance(stage, kinds)]
    if len(found) != 1:
        names = " or ".join(kind.__name__ for kind in kinds)
        what = f"only a supervised workflow can be looked into, and this one has {len(found)} {names} stages"
        raise UnsupportedError.of(what, where=workflow.name)
    return found[0]
