"""How is a model measured on held-out rows, without training?"""

from crucible.framework import Node, Workflow
from crucible.kitchen import slots as s
from crucible.kitchen.stages.evaluating import Evaluate
from crucible.kitchen.stages.loading import LoadDataset, LoadWeights, OpenStream
from crucible.kitchen.stages.saving import CloseSession
from crucible.kitchen.workflows.supervised import SupervisedSettings, prepare


def evaluation(
    settings: SupervisedSettings,
    *,
    load: LoadDataset | OpenStream,
    checkpoint: str = "",
    row_format: str = "auto",
    bits_per_byte: bool = True,
) -> Workflow:
    """Measure the base model, or with `checkpoint` the weights saved there, on the held-out rows."""
    weights: list[Node] = [LoadWeights("load_weights", session=s.SESSION, path=checkpoint)] if checkpoint else []
    return Workflow(
        "evaluation",
        description="Held-out negative log-likelihood of a model or a checkpoint",
        body=[
            *prepare(settings, load=load, row_format=row_format),
            *weights,
            Evaluate(
                "evaluate",
                session=s.SESSION,
                heldout=s.HELDOUT,
                tokenizer=s.TOKENIZER,
                step=s.STEP,
                label="checkpoint" if checkpoint else "base",
                bits_per_byte=bits_per_byte,
            ),
            CloseSession("close_session", session=s.SESSION),
        ],
    )
