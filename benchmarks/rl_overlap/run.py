"""How much of an environment's latency does an asynchronous run hide?

    .venv/bin/python -m benchmarks.rl_overlap.run --repeats 3

The same recipe in turn, one step ahead by the exact schedule, and one step ahead by the opportunistic one, in an
environment whose every answer takes a drawn time (log-normal, as tools and judges do), on a tiny model. Beside each
time stands the share of its schedule's critical path: the rollouts and updates of each step take as long as they took
in turn, in the same round, where nothing runs beside them; and no moment is lost between them.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.contest import REPOSITORY, Spread, machine, markdown, say, warn_if_busy, write_report
from tests.rl_letters import write_letter_model

import crucible
from crucible.train.rl.dataset import ProblemDataset
from crucible.train.rl.environments.environment import EnvironmentRequest
from crucible.train.rl.environments.registry import register_environment
from crucible.train.rl.problem_env import ProblemEnv, ProblemGroupBuilder
from crucible.train.rl.prompt_form import TextForm
from crucible.train.rl.seat import Seat
from crucible.train.rl.types import Action, RLDataset, StepResult
from crucible.train.seeding import generator

STEPS, AHEAD = 12, 1
MEDIAN_SECONDS, SIGMA = 0.25, 0.5
"""Of the time that an answer takes."""
LIMIT = 0.95
"""Of its own critical path an asynchronous run shall take no longer than the whole over this."""
CONFIG: Mapping[str, object] = {
    "env": "waiting",
    "group_size": 8,
    "groups_per_batch": 8,
    "max_tokens": 4,
    "max_steps": STEPS,
    "eval_groups": 0,
    "record_every": -1,
    "remove_constant_reward_groups": False,
    "gap_limit": 0.0,
}
MODES: Mapping[str, Mapping[str, object]] = {
    "in turn": {},
    "one ahead, exact": {"max_steps_off_policy": AHEAD},
    "one ahead, opportunistic": {"max_steps_off_policy": AHEAD, "schedule": "opportunistic"},
}


class WaitingEnv(ProblemEnv):
    """Answers take their time to be judged; each is worth the share of its characters that are letters."""

    async def step(self, action: Action) -> StepResult:
        drawn = generator(self.seat.surroundings.seed, "latency", self.seat.member).lognormal(0.0, SIGMA)
        await asyncio.sleep(MEDIAN_SECONDS * float(drawn))
        return await super().step(action)

    async def check_answer(self, answer: str) -> float:
        return sum(character.isalpha() for character in answer) / max(1, len(answer))


def waiting(request: EnvironmentRequest) -> RLDataset:
    """Problems for `WaitingEnv`."""
    form = TextForm(tokenizer=request.tokenizer)

    def group(question: str) -> ProblemGroupBuilder:
        def make(seat: Seat) -> WaitingEnv:
            return WaitingEnv(form=form, seat=seat, question=question)

        return ProblemGroupBuilder(make_env=make, group_size=request.group_size)

    problems = [f"{number}>" for number in range(64)]
    return ProblemDataset(problems, group, groups_per_batch=request.groups_per_batch, seed=request.seed)


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of each step's rollouts and of its update, and of all of it together."""

    rollouts: list[float]
    updates: list[float]
    whole: float

    def critical_path(self, ahead: int) -> float:
        """Without a moment lost: rollouts of a step begin when the update `ahead` + 1 steps before it is done, updates
        when their rollouts and the update before are."""
        ends: list[float] = []
        for step, (rollouts, update) in enumerate(zip(self.rollouts, self.updates, strict=True)):
            begins = ends[step - ahead - 1] if step > ahead else 0.0
            ends.append(max(begins + rollouts, ends[-1] if ends else 0.0) + update)
        return ends[-1]


def times_in(folder: Path) -> Times:
    """Read off a run's events."""
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]

    def at(name: str, stage: str) -> list[float]:
        found = [one for one in events if one["name"] == name and one["metadata"].get("stage") == stage]
        return [one["time_ns"] / 1e9 for one in found]

    begun, ended = at("stage.start", "start_rollouts"), at("stage.stop", "save_policy")[-STEPS:]
    groups = [one for one in events if one["name"] == "rollout.group"]
    done = [
        max(one["time_ns"] / 1e9 for one in groups if one["measurements"]["step"] == step)
        for step in range(1, STEPS + 1)
    ]
    free = [begun[0], *ended[:-1]]
    return Times(
        rollouts=[end - begin for begin, end in zip(begun, done, strict=True)],
        updates=[end - max(start, before) for start, before, end in zip(done, free, ended, strict=True)],
        whole=ended[-1] - begun[0],
    )


def main() -> int:
    """Run the modes in turn, print the table; 1 if one loses more than it may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results" / "rl_overlap.json")
    args = parser.parse_args()
    warn_if_busy()
    register_environment("waiting", waiting, description="answers that take their time to be judged")
    found: dict[str, list[Times]] = {mode: [] for mode in MODES}
    with TemporaryDirectory() as place:
        model = write_letter_model(Path(place) / "model")
        for repeat in range(args.repeats):
            for number, (mode, values) in enumerate(MODES.items()):
                folder = Path(place) / f"{repeat}-{number}"
                crucible.run("rl_grpo", {**CONFIG, **values, "model": str(model)}, manifest="local", run_dir=folder)
                found[mode].append(times_in(folder))
    runs = {mode: [{"whole": one.whole, **vars(one)} for one in times] for mode, times in found.items()}
    write_report(args.out, {"machine": machine(), "config": dict(CONFIG), "runs": runs})
    print(table(found))
    broken = [mode for mode in list(MODES)[1:] if efficiency(found, mode).median < LIMIT]
    for mode in broken:
        say(f"FAILED: {mode}: {efficiency(found, mode).shown(3)} of its critical path, not {LIMIT}")
    return 1 if broken else 0


def efficiency(found: Mapping[str, Sequence[Times]], mode: str) -> Spread:
    """The critical path, of the jobs as they took in turn in the same round, over what the mode took."""
    ahead = int(MODES[mode].get("max_steps_off_policy", 0))  # pyright: ignore[reportArgumentType]  (a number in a config)
    rounds = zip(next(iter(found.values())), found[mode], strict=True)
    return Spread.of([in_turn.critical_path(ahead) / one.whole for in_turn, one in rounds])


def table(found: Mapping[str, Sequence[Times]]) -> str:
    """The modes, and how much faster than in turn they are."""
    in_turn = next(iter(found.values()))
    rows: list[list[str]] = []
    for mode, times in found.items():
        faster = Spread.of([one.whole / other.whole for one, other in zip(in_turn, times, strict=True)])
        whole = Spread.of([one.whole for one in times])
        rows.append([mode, whole.shown(2), faster.shown(2), efficiency(found, mode).shown(3)])
    return markdown([f"{STEPS} steps", "seconds", "times as fast", "of its own critical path"], rows)


if __name__ == "__main__":
    sys.exit(main())
