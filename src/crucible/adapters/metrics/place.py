"""Where do a run's metrics files lie?"""

from pathlib import Path


def run_folder(folder: Path, run_id: str) -> Path:
    """`folder` itself where it is the run's own (it has the run's name), else the run's folder in it.

    Raises:
        ValueError: if the id is no plain file name.
    """
    if run_id in ("", ".", "..") or "/" in run_id or "\0" in run_id:
        raise ValueError(f"a run's id is a plain file name; got {run_id!r}")
    return folder if run_id == folder.name else folder / run_id
