"""Is a workflow drawn as it is written?"""

from toys import Put, Save, row, rows, slot, square, step, supervised

from crucible.framework import (
    And,
    Compare,
    Every,
    Loop,
    Named,
    Not,
    Or,
    Parallel,
    Range,
    Stream,
    When,
    Workflow,
    draw_mermaid,
    draw_text,
)

n = slot("n", int)

TREE = """\
supervised
├── load: Put() → rows
├── start: Put() → step
├── zero: Put() → total
├── epochs: loop 2 times, each as epoch
│   └── batches: loop over rows, each as row, until row == 9
│       ├── submit: Submit(row) → future
│       ├── count: Add(step) → step
│       ├── when every 2 of step
│       │   └── save: Save(step)
│       └── settle, 1 behind
│           ├── await: Await(future) → square
│           ├── sum: Add(total, square) → total
│           └── log: Log(step, total)
└── save_final: Save(step)"""

CHART = """\
flowchart TD
  n1["load: Put() → rows"]
  subgraph n2["l: loop over rows, until n #lt; 1"]
    n3["save: Save(row)"]
    subgraph n4["settle"]
      n5["late: Save(row)"]
    end
    n3 --> n4
  end
  n1 --> n2"""


def test_a_supervised_workflow_is_drawn_as_a_tree() -> None:
    assert draw_text(supervised(depth=1, until=Compare(row, "==", 9))) == TREE


def test_a_workflow_is_drawn_as_a_mermaid_chart() -> None:
    loop = Loop(
        "l", over=rows, body=[Save("save", step=row)], settle=[Save("late", step=row)], until=Compare(n, "<", 1)
    )
    assert draw_mermaid(Workflow("w", body=[Put("load", into=rows, value=[]), loop])) == CHART


def test_parallel_branches_streams_and_nested_workflows_are_drawn() -> None:
    save, late = Save("save", step=step), Save("late", step=step)
    nodes = [
        Parallel("both", branches=[[save], [late]]),
        Stream("flow", over=rows, bind=row, produce=[save], consume=[late], capacity=4),
        Workflow("inner", body=[save]),
    ]
    assert (
        draw_text(Workflow("w", body=nodes))
        == """\
w
├── both: in parallel
│   ├── branch 1
│   │   └── save: Save(step)
│   └── branch 2
│       └── late: Save(step)
├── flow: stream over rows, each as row, at most 4 ahead
│   ├── produce
│   │   └── save: Save(step)
│   └── consume
│       └── late: Save(step)
└── inner: workflow
    └── save: Save(step)"""
    )


def test_conditions_are_drawn_in_words() -> None:
    conditions = {
        And(Every(2), Or(Compare(n, "<", 0.5), Not(Every(0)))): "every 2 and (n < 0.5 or not never)",
        Compare(square, "!=", "a"): "square != 'a'",
        And(): "always",
        Or(): "never",
    }
    for condition, words in conditions.items():
        lines = draw_text(Workflow("w", body=[When(condition, [Save("s", step=n)], otherwise=[Save("t", step=n)])]))
        assert lines.splitlines()[1] == f"├── when {words}" and "└── otherwise" in lines
    named = When(Named("calm", {"patience": 3}, {"loss": n}), [Loop("l", over=Range(1), body=[])])
    assert draw_text(Workflow("w", body=[named])).splitlines()[1] == "└── when calm(loss=n, patience=3)"
