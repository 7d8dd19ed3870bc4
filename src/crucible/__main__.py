"""What happens when a person types `crucible`? The command's one door: errors become sentences and exit codes here."""

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 2 the user's input, 130 interrupted, 1 anything else."""
    from crucible.cli.app import run_command

    return run_command(list(sys.argv[1:] if arguments is None else arguments))


if __name__ == "__main__":
    sys.exit(main())
