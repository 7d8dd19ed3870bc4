"""Copies, empty rows, leaked rows and rows that cannot be used are found."""


def said(question: str, answer: str) -> dict:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def test_rows_that_all_differ_pass(find) -> None:
    assert find("duplicates").status == "pass"


def test_a_copy_is_a_warning_with_its_row(find, clean) -> None:
    found = find("duplicates", [*clean, clean[4]])
    assert (found.status, found.where) == ("warn", "rows row 31") and "1 of 31 rows (3.2 %)" in found.sentence


def test_a_file_read_twice_fails(find, clean) -> None:
    assert find("duplicates", [*clean, *clean]).status == "fail"


def test_a_handful_of_copies_is_no_share_to_go_by(find, clean) -> None:
    assert find("duplicates", clean[:1] * 10).status == "warn"


def test_an_answer_without_a_word_is_a_warning(find, clean) -> None:
    found = find("near_empty", [*clean, said("and?", " ... ")])
    assert (found.status, found.where) == ("warn", "rows row 31")


def test_a_wrong_column_fails(find) -> None:
    assert find("near_empty", [said("-", f"answer {number}") for number in range(20)]).status == "fail"


def test_numbers_signs_and_other_scripts_say_something(find) -> None:
    assert (
        find("near_empty", [said("2+2?", "4"), said("so?", "+"), said("元気?", "はい"), said("ok?", "👍")]).status
        == "pass"
    )


def test_held_out_rows_of_their_own_pass(find) -> None:
    assert find("overlap", heldout=[said("what is love?", "baby")]).status == "pass"
    assert find("overlap").status == "skipped"


def test_a_held_out_row_that_is_trained_is_a_warning_exactly_and_by_its_words(find, clean) -> None:
    louder = said("WHAT is 7 plus 7??", "14 -- I think!")
    found = find("overlap", heldout=[clean[3], louder, said("what is love?", "baby")])
    assert (found.status, found.where) == ("warn", "held row 1")
    assert "(1 exactly, 1 but for case and punctuation)" in found.sentence


def test_a_leaked_held_out_set_fails(find, clean) -> None:
    assert find("overlap", heldout=clean[:20]).status == "fail"


def test_rows_that_can_all_be_used_pass(find) -> None:
    assert find("dropped").status == "pass"


def test_some_rows_that_cannot_be_used_are_a_warning_with_the_reason(find, clean) -> None:
    found = find("dropped", [*clean, {"messages": []}])
    assert (found.status, found.where) == ("warn", "rows row 31") and "has no message" in found.sentence


def test_most_rows_unusable_fail(find, clean) -> None:
    assert find("dropped", [*clean[:2], *[{"messages": [{"role": "user", "content": "?"}]}] * 3]).status == "fail"
