"""Do both call styles of the seed documents reach the mathematics in the pool?"""

import pytest

from crucible.errors import ConfigError
from crucible.train.graders.pool import CallFailedError, GraderPool
from crucible.train.graders.snakepit import Snakepit


async def test_call_names_a_module_and_a_function(pool: GraderPool) -> None:
    snakepit = Snakepit(pool)
    assert await snakepit.call("sympy", "simplify", ["x + x"]) == "2*x"
    assert await snakepit.call("sympy", "solve", ["x^2 = 4"]) == ["-2", "2"]
    assert await snakepit.call("pylatexenc", "latex_to_text", [r"\alpha"]) == "α"


async def test_execute_names_a_command(pool: GraderPool) -> None:
    snakepit = Snakepit(pool)
    item = {"reference": "1/3", "prediction": "0.333", "tolerance": 1e-2}
    assert (await snakepit.execute("verify_math_answer", item)).score == 1.0
    pairs = [("1", "1.0"), ("7", "10^{10^{10^{10}}}"), ("2", "3")]
    verdicts = await snakepit.execute("batch_verify", {"pairs": pairs})
    assert [one.score for one in verdicts] == [1.0, None, 0.0]
    assert await snakepit.execute("simplify", {"expression": "x + x"}) == "2*x"


async def test_what_does_not_exist_or_fails_says_so(pool: GraderPool) -> None:
    snakepit = Snakepit(pool)
    with pytest.raises(ConfigError, match=r"no such function.*sympy.simplify"):
        await snakepit.call("sympy", "simplifi", ["x"])
    with pytest.raises(ConfigError, match="no such command"):
        await snakepit.execute("eval", {})
    with pytest.raises(CallFailedError, match="is no expression"):
        await snakepit.call("sympy", "simplify", ["((("])
