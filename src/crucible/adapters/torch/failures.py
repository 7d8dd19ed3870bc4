"""How do PyTorch's failures reach a port's caller?"""

from collections.abc import Generator
from contextlib import contextmanager

from crucible.errors import PortError


@contextmanager
def translated() -> Generator[None]:
    """Turn foreign failures (memory, disk, PyTorch's RuntimeError, numbers that are not finite) into PortError.

    What is the caller's to mend (UserError, ValueError) and our own bugs pass unchanged.
    """
    try:
        yield
    except PortError:
        raise
    except (RuntimeError, OSError, MemoryError, ArithmeticError) as error:
        raise PortError(f"{type(error).__name__}: {error}", port="engine", adapter="torch") from error
