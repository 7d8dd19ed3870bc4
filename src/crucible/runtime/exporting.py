"""How do a run's weights become a folder that other tools load?"""

from pathlib import Path
from typing import Literal, TypeAlias

from crucible.engine.options import ExportDTypeName as ExportDTypeName
from crucible.errors import MissingExtraError, UnsupportedError
from crucible.runtime.finished import FinishedRun

ExportFormat: TypeAlias = Literal["peft", "merged"]


def export(run: FinishedRun, out: Path, *, format: ExportFormat, dtype: ExportDTypeName = "float32") -> Path:  # noqa: A002  (the flag's name)
    """Write the run's weights: `peft` an adapter for `peft`, `merged` a whole model for `transformers`.

    dtype: of the merged model's weights.

    Raises:
        CheckpointError: if the run saved no weights.
        UserError: if `out` is not empty.
        UnsupportedError: if the weights are not on this machine.
        MissingExtraError: if torch is not installed.
    """
    checkpoint = Path(run.sampler_path)
    if run.sampler_path.startswith("tinker://") or not checkpoint.is_dir():
        raise UnsupportedError.of("only weights in a folder of this machine can be exported", given=run.sampler_path)
    from crucible.adapters.assets import crucible_home, resolve_model
    from crucible.adapters.hub import HfHubClient

    try:
        from crucible.engine.export import export_merged, export_peft
    except ModuleNotFoundError as error:
        missing = error.name or "torch"
        raise MissingExtraError.for_extra("torch", needed_by="exporting weights", module=missing) from error
    model_folder = resolve_model(run.model, home=crucible_home(), hub=HfHubClient())
    if format == "peft":
        export_peft(checkpoint, out, model_folder=model_folder)
    else:
        export_merged(checkpoint, out, model_folder=model_folder, dtype=dtype)
    return out
