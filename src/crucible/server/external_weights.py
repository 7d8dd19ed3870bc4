"""How do a run's weights become files that other programs load? As a `peft` adapter in Hugging Face's layout."""

from pathlib import Path

from crucible.errors import MissingExtraError
from crucible.ports.training_client import SavedWeights
from crucible.server.served import Served
from crucible.server.vault import Kept


def keep_external(served: Served, saved: SavedWeights, *, reference: str) -> Kept:
    """Write a snapshot that the engine saved as a `peft` adapter, and keep that; blocks on the disk.

    reference: what the ports call the base model, whose tokenizer files are copied along.

    Raises:
        CheckpointError: if the snapshot is damaged.
        MissingExtraError: if the engine's packages are not installed.
        OSError, PortError, UserError: if it cannot be written.
    """
    try:
        from crucible.engine.export import export_peft
    except ModuleNotFoundError as error:
        missing = error.name or "torch"
        raise MissingExtraError.for_extra("torch", needed_by="exporting weights", module=missing) from error

    def export(checkpoint: Path, out: Path) -> Path:
        return export_peft(checkpoint, out, model_folder=Path(served.tokenizer_folder(reference)))

    return served.vault.keep_export(saved, export=export)
