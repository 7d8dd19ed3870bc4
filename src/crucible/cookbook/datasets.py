"""Which data sets does the cookbook know by a short name, and how are they split?"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DatasetChoice:
    """Where a data set is and how its rows read.

    reference: what the dataset store is asked for.
    heldout_split: the split to evaluate on; when empty, held-out rows are drawn from the training split.
    row_format: a format of `crucible.train.data.formats`, or `auto`.
    """

    reference: str
    split: str = "train"
    heldout_split: str = ""
    row_format: str = "auto"
    note: str = ""


DATASETS: Mapping[str, DatasetChoice] = {
    "gsm8k": DatasetChoice(
        reference="gsm8k",
        row_format="question_answer",
        note="the 1,319 rows of GSM8K's test file, which comes as a package; split here into train and held-out",
    ),
    "no_robots": DatasetChoice(
        reference="HuggingFaceH4/no_robots", heldout_split="test", row_format="messages", note="from the hub"
    ),
    "tulu3": DatasetChoice(reference="allenai/tulu-3-sft-mixture", row_format="messages", note="from the hub"),
    "conversations": DatasetChoice(
        reference="conversations", row_format="messages", note="128 conversations, which come as a package"
    ),
}


def choose(dataset: str) -> DatasetChoice:
    """The known data set of that name; any other name is a reference in itself (a hub id or a local file)."""
    return DATASETS.get(dataset, DatasetChoice(reference=dataset))
