"""Which commands are there, and how does an error reach the person?"""

import errno
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from crucible import __version__
from crucible.cli import (
    chat,
    conformance,
    describe,
    doctor,
    export,
    inspect,
    keys,
    plan,
    recipes,
    resume,
    run,
    runs,
    score,
    serve,
    validate,
    verify_resume,
)
from crucible.cli.arguments import CONTINUE
from crucible.errors import Interrupted, PortError, UserError
from crucible.telemetry.terminal import Terminal

# typer exports the exception for one bad parameter, but not its parent for every wrong use of the command line.
_UsageError: type[BaseException] = typer.BadParameter.__mro__[1]


class RecipesAreCommands(TyperGroup):
    """`crucible sl_basic key=value` is `crucible run sl_basic key=value`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Read a recipe's name as `run` and that name."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            from crucible.kitchen.registry import ALIASES
            from crucible.runtime.facade import recipes as known

            if args[0] in {*known(), *ALIASES}:
                args = ["run", *args]
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command. Being stopped leaves by our own exception: typer would end in silence, with 130 for all."""
        try:
            return super().invoke(ctx)
        except Interrupted as stop:
            raise Stopped(str(stop), code=128 + stop.signum, notes=_notes(stop)) from stop
        except Terminated as stop:
            raise Stopped("terminated", code=143, notes=_notes(stop)) from stop
        except KeyboardInterrupt as stop:
            raise Stopped("interrupted", code=130, notes=_notes(stop)) from stop
        except (BrokenPipeError, SystemExit) as error:
            # typer takes these for its own: a reader of our output that is gone, a command that is done.
            if any(note.startswith("in the stage ") for note in getattr(error, "__notes__", ())):
                raise StageFailed(f"{type(error).__name__}: {error}") from error
            raise


class StageFailed(Exception):
    """A stage failed by an error that would read as the end of the command."""


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived: an event loop lets it through as it does Ctrl-C."""


class Stopped(BaseException):
    """The person, or the system, ended the command."""

    def __init__(self, how: str, *, code: int, notes: Sequence[str]) -> None:
        super().__init__(how)
        self.code, self.notes = code, notes


def _notes(error: BaseException) -> list[str]:
    """How to go on, if there is something to go on with."""
    return [note for note in getattr(error, "__notes__", ()) if note.startswith(CONTINUE)]


app = typer.Typer(
    name="crucible",
    cls=RecipesAreCommands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Post-training recipes for language models: on this machine, a cluster or a service.",
    epilog="Start with: crucible recipes · crucible plan sl_basic · crucible run sl_basic preset=demo",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Post-training recipes for language models: on this machine, a cluster or a service."""


for _module in (
    recipes,
    describe,
    validate,
    plan,
    doctor,
    run,
    resume,
    verify_resume,
    runs,
    chat,
    export,
    score,
    inspect,
    serve,
    keys,
    conformance,
):
    _module.register(app)


def run_command(arguments: list[str]) -> int:
    """Run one command line; returns its exit code."""
    signal.signal(signal.SIGTERM, _terminate)
    errors = Terminal(stderr=True, soft_wrap=True)
    try:
        outcome: Any = app(args=arguments, prog_name="crucible", standalone_mode=False)
        return outcome if isinstance(outcome, int) else 0
    except UserError as error:
        for problem in error.problems:
            errors.print(f"error: {problem}", style="red", highlight=False)
        _print_notes(errors, error)
        return 2
    except _UsageError as error:
        cast(Any, error).show()
        return 2
    except typer.Exit as error:
        return error.exit_code
    except Stopped as stop:
        for line in (str(stop), *stop.notes):
            errors.print(line, highlight=False)
        return stop.code
    except PortError as error:
        errors.print(f"error: {error}", style="red", highlight=False)
        if error.retryable:
            errors.print("The same command may succeed later.")
        _print_notes(errors, error)
        return 1
    except OSError as error:
        if error.errno in _PATH:
            errors.print(f"error: {error.filename}: {error.strerror}", style="red", highlight=False)
            return 2
        if error.errno not in _DISK:
            return _crashed(error, errors)
        where = f" ({error.filename})" if error.filename else ""
        errors.print(f"error: {error.strerror}{where}; what was written before is kept", style="red", highlight=False)
        _print_notes(errors, error)
        return 1
    except SystemExit:
        return 0  # how typer ends when nobody reads its output any more
    except Exception as error:  # noqa: BLE001  (the last door: one line here, the traceback in the run folder)
        return _crashed(error, errors)


_PATH = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP)
"""What the system answers to a path that cannot be what it is given for."""
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)
"""What a full, read-only or failing disk answers."""


def _crashed(error: Exception, errors: Terminal) -> int:
    from crucible.cli.crash import report

    report(error, errors)
    _print_notes(errors, error)
    return 1


def _print_notes(errors: Terminal, error: BaseException) -> None:
    for note in _notes(error):
        errors.print(note, highlight=False)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated
