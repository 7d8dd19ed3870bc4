"""How do PyTorch's failures reach a port's caller?"""

from collections.abc import Generator
from concurrent.futures import CancelledError
from contextlib import contextmanager

from crucible.errors import PortError


@contextmanager
def translated() -> Generator[None]:
    """Turn foreign failures (memory, disk, PyTorch's RuntimeError, numbers that are not finite, the engine's end)
    into PortError.

    What is the caller's to mend (UserError, ValueError) and our own bugs pass unchanged.
    """
    try:
        yield
    except PortError:
        raise
    except CancelledError as error:
        raise PortError("the engine was closed before this request was done", port="engine", adapter="torch") from error
    except (RuntimeError, OSError, MemoryError, ArithmeticError) as error:
        raise PortError(f"{type(error).__name__}: {error}", port="engine", adapter="torch") from error
