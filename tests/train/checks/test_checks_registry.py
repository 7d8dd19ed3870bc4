"""The checks have one name each, and can be asked for by it."""

from crucible.train.checks import CHECKS, Finding, examine


def test_every_finding_bears_the_name_that_its_check_is_known_by(looked, clean) -> None:
    for rows in (clean, [], [{"messages": "?"}]):
        assert [finding.check for finding in examine(looked(rows))] == list(CHECKS)


def test_clean_rows_of_every_convention_raise_no_alarm(looked, clean) -> None:
    for renderer in ("chatml", "llama", "base_chatml", "thinking", "eos_at_the_end", "plain"):
        findings = examine(looked(clean, renderer=renderer))
        assert [finding for finding in findings if finding.status in ("warn", "fail")] == []


def test_one_check_can_be_asked_for(looked) -> None:
    assert [finding.check for finding in examine(looked(), only=("bos", "overlap"))] == ["bos", "overlap"]


def test_a_finding_reads_as_a_sentence() -> None:
    finding = Finding(check="bos", status="fail", sentence="two", where="row 1", fix="Take one out")
    assert str(finding) == "bos: two. First: row 1. Take one out."


def test_of_very_long_rows_fewer_are_looked_at(looked, clean) -> None:
    seen = looked(clean, characters=100)
    assert 1 < len(seen.rows) < 10 and 1 <= len(seen.train) < 10
    assert len(looked(clean, characters=1).rows) == 1
