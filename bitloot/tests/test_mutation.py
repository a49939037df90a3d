"""The mutation tester's mutants: one that cannot run would pass for one that a test noticed."""

from tools.dev.mutation import mutants_of


def outcomes(source, *arguments):
    """Return for each mutant of a source what its function `f` answers."""
    answers = {}
    for mutant in mutants_of(source):
        names = {}
        exec(compile(mutant.tree, "source", "exec"), names)
        answers[mutant.what] = names["f"](*arguments)
    return answers


def test_a_join_of_two_loses_either_part():
    assert outcomes("def f(a, b): return a and b", 0, 2) == {
        "return None": None, "And -> Or": 2, "And without part 1": 2, "And without part 2": 0,
    }  # fmt: skip


def test_a_join_of_three_loses_any_part():
    assert outcomes("def f(a, b, c): return a or b or c", 0, 0, 3) == {
        "return None": None, "Or -> And": 0, "Or without part 1": 3, "Or without part 2": 3, "Or without part 3": 0,
    }  # fmt: skip


def test_an_answer_of_none_is_not_replaced_by_none():
    assert outcomes("def f(): return None") == {}
