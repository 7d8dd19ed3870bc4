"""Is the curve of a run that of its reward, where it has one, and of its loss elsewhere?"""

from pathlib import Path

from crucible.ports.metrics_store import MetricsRow
from crucible.runtime.curve import draw, terminal_plot

SUPERVISED = [MetricsRow(step=step, values={"loss": 2.0 / step}) for step in range(1, 6)]
LEARNED = [MetricsRow(step=step, values={"loss": -1.0, "reward/mean": step / 6}) for step in range(1, 6)]


def test_a_supervised_run_has_the_curve_of_its_loss(tmp_path: Path) -> None:
    assert [path.name for path in draw(SUPERVISED, tmp_path, title="sl")] == ["loss.svg", "loss.png"]
    assert "training loss" in terminal_plot(SUPERVISED)


def test_a_run_that_earns_rewards_has_their_curve_and_not_that_of_its_loss(tmp_path: Path) -> None:
    pictures = draw(LEARNED, tmp_path, title="rl")
    assert [path.name for path in pictures] == ["reward.svg", "reward.png"] and all(
        path.stat().st_size for path in pictures
    )
    assert "mean reward" in terminal_plot(LEARNED)


def test_where_nothing_was_recorded_nothing_is_drawn(tmp_path: Path) -> None:
    assert draw([], tmp_path, title="none") == [] and terminal_plot([]) == ""
