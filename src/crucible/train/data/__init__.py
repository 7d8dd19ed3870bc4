"""How do rows become training batches, and what do they amount to?"""

from crucible.train.data.datum import BuiltDatum as BuiltDatum
from crucible.train.data.datum import Reduction as Reduction
from crucible.train.data.datum import data_from_examples as data_from_examples
from crucible.train.data.datum import datum_from_example as datum_from_example
from crucible.train.data.dropped import Dropped as Dropped
from crucible.train.data.formats import FORMATS as FORMATS
from crucible.train.data.formats import RowError as RowError
from crucible.train.data.formats import detect_format as detect_format
from crucible.train.data.formats import row_to_messages as row_to_messages
from crucible.train.data.formats import row_tools as row_tools
from crucible.train.data.rendering import RenderedBatch as RenderedBatch
from crucible.train.data.rendering import RowRenderer as RowRenderer
from crucible.train.data.split import split_rows as split_rows
from crucible.train.data.streamed import StreamedDataset as StreamedDataset
from crucible.train.data.supervised import BatchRows as BatchRows
from crucible.train.data.supervised import SupervisedDataset as SupervisedDataset
from crucible.train.data.supervised import TrainingData as TrainingData
from crucible.train.data.survey import DataSurvey as DataSurvey
from crucible.train.data.survey import Lengths as Lengths
from crucible.train.data.survey import require_trainable as require_trainable
from crucible.train.data.survey import survey as survey

__all__ = [
    "FORMATS",
    "BatchRows",
    "BuiltDatum",
    "DataSurvey",
    "Dropped",
    "Lengths",
    "Reduction",
    "RenderedBatch",
    "RowError",
    "RowRenderer",
    "StreamedDataset",
    "SupervisedDataset",
    "TrainingData",
    "data_from_examples",
    "datum_from_example",
    "detect_format",
    "require_trainable",
    "row_to_messages",
    "row_tools",
    "split_rows",
    "survey",
]
