"""How do the seed documents call mathematics? By module and function, or by command: both styles, over the pool."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from crucible.errors import ConfigError, did_you_mean
from crucible.train.graders.answers import TOLERANCE
from crucible.train.graders.pool import GraderPool
from crucible.train.graders.registry import find_grader
from crucible.train.graders.verdict import Verdict

_MATH = "crucible.train.graders.math"
_CALLS: Mapping[str, str] = {
    "sympy.simplify": f"{_MATH}:simplify",
    "sympy.solve": f"{_MATH}:solve",
    "pylatexenc.latex_to_text": f"{_MATH}:latex_to_text",
    "math_verify.verify_answer": f"{_MATH}:verify_answer",
}
_COMMANDS = ("verify_math_answer", "batch_verify", "simplify", "solve", "latex_to_text")


class Snakepit:
    """Mathematics in the workers of a pool, which is the owner's to close; every call has the pool's limits.

    What hangs or dies is a `CallFailedError` with its verdict, or a verdict where verdicts are what comes back.
    """

    def __init__(self, pool: GraderPool) -> None:
        self._pool = pool

    async def call(self, module: str, function: str, arguments: Sequence[Any]) -> Any:
        """`call("sympy", "simplify", ["x**2 + 2*x*x"])`: the function's value, a text or a list of texts.

        Raises:
            ConfigError: if there is no such function.
            MissingExtraError: if the extra is not installed.
            CallFailedError: as `GraderPool.call`.
        """
        name = f"{module}.{function}"
        if name not in _CALLS:
            raise ConfigError.of(
                "there is no such function", where="Snakepit.call", given=name, fix=did_you_mean(name, _CALLS)
            )
        find_grader("math")  # says what is to be installed
        return await self._pool.call(_CALLS[name], arguments)

    async def execute(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """`execute("verify_math_answer", {"reference": "1/2", "prediction": "0.5", "tolerance": 1e-6})`.

        Commands: `verify_math_answer` (a `Verdict`); `batch_verify` (`pairs`, `tolerance`: a `Verdict` for each pair,
        in order: one that hangs costs the others nothing); `simplify` (`expression`), `solve` (`equation`, `symbol`),
        `latex_to_text` (`latex`): texts.

        Raises:
            ConfigError, MissingExtraError, CallFailedError: as `call`.
        """
        if command not in _COMMANDS:
            raise ConfigError.of(
                "there is no such command",
                where="Snakepit.execute",
                given=command,
                fix=did_you_mean(command, _COMMANDS),
            )
        find_grader("math")
        tolerance = arguments.get("tolerance", TOLERANCE)
        if command == "verify_math_answer":
            return await self._verify(arguments["reference"], arguments["prediction"], tolerance)
        if command == "batch_verify":
            pairs: Sequence[tuple[str, str]] = arguments["pairs"]
            return list(await asyncio.gather(*(self._verify(one, other, tolerance) for one, other in pairs)))
        return await self._pool.call(f"{_MATH}:{command}", named=arguments)

    async def _verify(self, reference: str, prediction: str, tolerance: float) -> Verdict:
        item = {"reference": reference, "prediction": prediction, "tolerance": tolerance}
        return await self._pool.grade("math", item, place="")
