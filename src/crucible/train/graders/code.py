"""Is a program right? It passes its tests, in a sandbox: each run is a process of its own that may touch nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from crucible.errors import ConfigError
from crucible.train.graders.sandbox import ProgramLimits, ProgramRun, Sandbox, run_program
from crucible.train.graders.verdict import Verdict

_LIMITS = ("cpu_seconds", "wall_seconds", "memory_mib", "output_kib")


def grade_code(item: Mapping[str, Any]) -> Verdict:
    """1.0 if a program passes, else 0.0. A grader.

    item: `code` with either `tests` (run after it with its names, and passed if nothing is raised; the program's own
    `if __name__ == "__main__"` does not run) or `cases`, a list of `{"stdin": ..., "expected": ...}`, each given to
    a run of its own (passed if the lines on its standard output are those, but for white space at their ends).
    Optional: `partial` (the score is the share of cases that pass), `sandbox` and the limits of `ProgramLimits`.

    A program that raises, ends early, or goes beyond its CPU time, memory or output is a wrong answer. One that still
    waits at the clock's limit is `timed_out`; one that this machine cannot lock up is not run, and `invalid`.
    The sandbox is not proof against a program that searches the interpreter for what grades it.

    Raises:
        ConfigError: if a limit, or `sandbox`, is none.
        KeyError: if there is neither `tests` nor `cases`.
    """
    sandbox = item.get("sandbox", "full")
    if sandbox not in get_args(Sandbox):
        raise ConfigError.of("there is no such sandbox", where="sandbox", given=sandbox, fix="use full or limits")
    limits = ProgramLimits(**{name: item[name] for name in _LIMITS if name in item})
    if "tests" in item:
        run = run_program(item["code"], tests=item["tests"], limits=limits, sandbox=sandbox)
        return _no_score(run) or Verdict.of(float(run.ended == "passed"), run.why)
    return _cases(item["code"], item["cases"], bool(item.get("partial", False)), limits, sandbox)


def _cases(
    code: str, cases: Sequence[Mapping[str, str]], partial: bool, limits: ProgramLimits, sandbox: Sandbox
) -> Verdict:
    if not cases:
        raise ValueError("a program without a case proves nothing")
    passed, why = 0, ""
    for number, case in enumerate(cases, start=1):
        run = run_program(code, tests=None, stdin=case["stdin"], limits=limits, sandbox=sandbox)
        if (verdict := _no_score(run)) is not None:
            return verdict
        wrong = run.why if run.ended != "passed" else _difference(run.stdout, case["expected"])
        passed += not wrong
        why = why or (wrong and f"case {number}: {wrong}")
        if wrong and not partial:
            return Verdict.of(0.0, why)
    return Verdict.of(passed / len(cases), f"{passed} of {len(cases)} cases passed" + (f"; {why}" if why else ""))


def _no_score(run: ProgramRun) -> Verdict | None:
    if run.ended == "refused":
        return Verdict.invalid(f"the program was not run: this machine cannot keep from it: {run.why}")
    if run.ended == "broken":
        return Verdict.invalid(run.why, repeatable=False)
    if run.ended == "wall":
        return Verdict.timed_out(run.why, repeatable=False)
    return None


def _difference(stdout: bytes, expected: str) -> str:
    got, wanted = _lines(stdout.decode(errors="replace")), _lines(expected)
    if got == wanted:
        return ""
    place = next(
        (each for each, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), min(len(got), len(wanted))
    )
    here, there = ([*lines, "the end"][min(place, len(lines))] for lines in (got, wanted))
    return f"line {place + 1} is {here[:80]!r}, not {there[:80]!r}"


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().split("\n")]
