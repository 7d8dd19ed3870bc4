"""Is something wrong with an environment before the first step? Its graders, its prompts, the settings."""

from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice

from crucible.errors import DataError, UserError
from crucible.ports.model_facts import ModelFacts
from crucible.ports.tokenizer import Tokenizer
from crucible.train.checks.finding import Finding
from crucible.train.checks.rate import judge_rate
from crucible.train.graders.graders import Graders
from crucible.train.rl.environments.self_check import failures, self_check
from crucible.train.rl.players import PlayerEnv
from crucible.train.rl.rollout import RolloutLimits
from crucible.train.rl.types import EnvGroupBuilder, Observation, RLDataset, Surroundings
from crucible.train.seeding import derive_seed

REHEARSED = 4
"""Problems whose known answers are played."""
LOOKED_AT = 64
"""Problems whose first prompts are measured."""

PROBLEM_CHECKS = ("answers", "prompts", "vocabulary", "learning_rate")
"""Their names, which `waive` and `--only` take."""


@dataclass(frozen=True, kw_only=True)
class RLExamined:
    """What is looked at. facts: of the model; None where the backend does not know it."""

    problems: RLDataset
    tokenizer: Tokenizer
    graders: Graders
    limits: RolloutLimits
    model: str
    facts: ModelFacts | None
    learning_rate: float
    computes: bool
    seed: int


async def examine_problems(examined: RLExamined, *, only: Collection[str] = ()) -> list[Finding]:
    """The findings of all checks, or of those named, in the order of `PROBLEM_CHECKS`.

    Raises:
        UserError: as the environment raises it (a missing extra, a bad option).
    """
    found: list[Finding] = []
    if not only or "answers" in only:
        found.append(await _answers(examined))
    if not only or not {"prompts", "vocabulary"}.isdisjoint(only):
        prompts = await first_prompts(examined.problems, graders=examined.graders, seed=examined.seed)
        found += [_prompts(examined, prompts), _vocabulary(examined, prompts)]
    rate = judge_rate(examined.learning_rate, model=examined.model, facts=examined.facts, computes=examined.computes)
    return [one for one in (*found, rate) if not only or one.check in only]


async def first_prompts(
    problems: RLDataset, *, graders: Graders, seed: int, most: int = LOOKED_AT
) -> list[tuple[str, Observation]]:
    """(problem, what its first member sees first) of up to `most` problems of the first epoch, in the run's order.

    One whose first observation waits for another player is left out.

    Raises:
        DataError: if an environment fails; other UserErrors as it raises them.
    """
    builders = islice((one for batch in range(len(problems)) for one in problems.get_batch(batch)), most)
    seen: list[tuple[str, Observation]] = []
    for number, builder in enumerate(builders):
        around = Surroundings(seed=derive_seed(seed, "look", number), graders=graders, place=f"look/{number}")
        try:
            seen += await _first_prompt(builder, around)
        except UserError:
            raise
        except Exception as error:
            told = f"the environment failed before anything was sampled: {type(error).__name__}: {error}"
            raise DataError.of(told, where=f"the problem {builder.problem}", fix="Mend the environment") from error
    return seen


async def _first_prompt(builder: EnvGroupBuilder, around: Surroundings) -> list[tuple[str, Observation]]:
    envs = await builder.make_envs(around)
    try:
        if isinstance(envs[0], PlayerEnv) and not envs[0].starts:
            return []
        observation, _ = await envs[0].initial_observation()
        return [(builder.problem, observation)]
    finally:
        for env in envs:
            await env.close()


async def _answers(examined: RLExamined) -> Finding:
    """A right answer earns what it should, and a wrong one nothing, through the environment and its graders."""
    checked = await self_check(
        examined.problems,
        tokenizer=examined.tokenizer,
        graders=examined.graders,
        seed=examined.seed,
        problems=REHEARSED,
    )
    if failed := failures(checked):
        return Finding(
            check="answers",
            status="fail",
            sentence=f"{len(failed)} of {len(checked)} problems do not reward their own answers as they should",
            where=f"{failed[0].problem}: {failed[0].what}",
            fix="Mend the environment or its grader: every reward of this run would be wrong",
        )
    known = [one for one in checked if one.state == "passed"]
    if not known:
        why = "the environment knows no right answer to play"
        return Finding(check="answers", status="skipped", sentence=why)
    told = f"the reference answers of {len(known)} problems earn what they should, and wrong ones nothing"
    return Finding(check="answers", status="pass", sentence=told)


def _prompts(examined: RLExamined, prompts: list[tuple[str, Observation]]) -> Finding:
    """The longest prompt and a whole answer fit the model's context."""
    if not prompts:
        return Finding(check="prompts", status="skipped", sentence="no first prompt is known before others have moved")
    problem, longest = max(prompts, key=lambda one: one[1].length)
    context, most = examined.limits.context_length, examined.limits.max_tokens
    told = f"{len(prompts)} prompts of up to {longest.length} tokens, and {most} to answer"
    if context is None:
        return Finding(check="prompts", status="pass", sentence=f"{told}; the model's context is not known")
    told = f"{told}; the model's context has {context}"
    if longest.length + most <= context:
        return Finding(check="prompts", status="pass", sentence=told)
    return Finding(
        check="prompts",
        status="fail" if longest.length >= context else "warn",
        sentence=f"no room for a whole answer: {told}",
        where=problem,
        fix="Give a smaller max_tokens, or options of the environment with shorter prompts",
    )


def _vocabulary(examined: RLExamined, prompts: list[tuple[str, Observation]]) -> Finding:
    """Every token of the prompts has a row in the model's embedding."""
    if examined.facts is None or not prompts:
        why = "the model's vocabulary is not known here" if prompts else "there is no prompt to look at"
        return Finding(check="vocabulary", status="skipped", sentence=why)
    size = examined.facts.vocab_size
    for problem, prompt in prompts:
        largest = max(prompt.to_ints(), default=0)
        if largest >= size:
            told = f"a prompt has the token {largest}, and the model knows {size}"
            fix = "Take the tokenizer that belongs to the model"
            return Finding(check="vocabulary", status="fail", sentence=told, where=problem, fix=fix)
    return Finding(check="vocabulary", status="pass", sentence=f"every token of the prompts is below {size}")
