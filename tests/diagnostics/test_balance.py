"""Balance: shares, total variation and the values told, counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scalselect.diagnostics.answer_words import answer_word
from scalselect.diagnostics.balance import MOST_TOLD, balance_measures


def counted(*counts):
    return [np.array(c, dtype=np.int64) for c in counts]


def test_by_hand():
    found = balance_measures(["red", "gray", "blue"], *counted([50, 25, 25], [1, 4, 0], [2, 2, 1]))
    assert found["values"] == 3
    assert found["total_variation"] == {"chosen": pytest.approx(0.55), "random": pytest.approx(0.15)}
    assert found["over"] == [
        {"value": "gray", "pool": 0.25, "chosen": 0.8, "random": 0.4, "pool_rows": 25, "chosen_rows": 4}
    ]
    assert [item["value"] for item in found["under"]] == ["red", "blue"]


def test_the_most_different_come_first_and_ties_by_name():
    names = [f"v{i:02d}" for i in range(40)]
    pool, chosen = np.full(40, 100), np.array([100 + 3 * i * (-1) ** i for i in range(40)])
    found = balance_measures(names, pool, chosen, pool)
    grown = chosen / chosen.sum() - pool / pool.sum()
    assert [item["value"] for item in found["over"]] == [names[i] for i in np.argsort(-grown)[:MOST_TOLD]]
    assert [item["value"] for item in found["under"]] == [names[i] for i in np.argsort(grown)[:MOST_TOLD]]
    tied = balance_measures(["b", "a", "c"], *counted([1, 1, 2], [1, 1, 0], [0, 0, 0]))
    assert [item["value"] for item in tied["over"]] == ["a", "b"]


@given(st.lists(st.tuples(*[st.integers(0, 50)] * 3), min_size=1, max_size=30))
def test_total_variation_is_half_the_summed_difference(rows):
    pool, chosen, random = np.array(rows).T
    found = balance_measures(list(range(len(rows))), pool, chosen, random)["total_variation"]
    for name, counts in (("chosen", chosen), ("random", random)):
        if not counts.sum():
            assert found[name] is None
        elif pool.sum():
            shares = zip(counts / counts.sum(), pool / pool.sum(), strict=True)
            assert found[name] == pytest.approx(sum(max(a - b, 0) for a, b in shares), abs=1e-12)
            assert 0 <= found[name] <= 1


def test_the_same_set_is_balanced():
    found = balance_measures(["a", None], *counted([3, 5], [3, 5], [3, 5]))
    assert found == {"values": 2, "total_variation": {"chosen": 0.0, "random": 0.0}, "over": [], "under": []}


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        ("Yes.", "yes"),
        ("  YES ", "yes"),
        ("3.5", "3.5"),
        ("Don't know!", "don't know"),
        ("A blue circle.", "a blue circle"),
        ("The man, who wears a hat.", "the"),
        ('"Hello" - he - said it', "hello"),
        ("red , blue", "red blue"),
        ("", ""),
        ("   \n", ""),
        ("...", "..."),
        ("+5", "+5"),
        ("-5.", "-5"),
        ("50%", "50%"),
        ("&lt;b&gt;", "&lt;b&gt;"),
        ("this; that", "this that"),
        ("__proto__", "__proto__"),
        ("#1", "#1"),
        ("@home!", "@home"),
        ("f(x)", "f(x)"),
        ("(B).", "b"),
        ("(a, [b])", "a b"),
        ("(a)(b)", "(a)(b)"),
        ("\u00abOui\u00bb, \u00bfno?", "oui no"),
        ("5'10\"", "5'10\""),
        ("x" + ")" * 100_000, "x" + ")" * 39),
        ("\u732b\u3002", "\u732b"),
        ("x" * 100, "x" * 40),
        ("word " * 1000, "word"),
    ],
)
def test_answer_words(answer, word):
    assert answer_word(answer) == word


@given(st.text())
def test_answer_words_are_short_and_stable(answer):
    word = answer_word(answer)
    assert len(word) <= 40
    assert word == word.strip()
    assert bool(word) == bool(answer.strip())
    assert answer_word(answer.lower()) == word
