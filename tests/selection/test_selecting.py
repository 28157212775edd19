import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import image_lists, places_of, random_candidates, row_images, times_shown

from scalselect.errors import BudgetError, OptionError
from scalselect.selection.candidates import Candidates
from scalselect.selection.selecting import Strata, select_rows
from scalselect.selection.strategies import STRATEGIES

NESTING = [name for name, strategy in STRATEGIES.items() if strategy.nests]
SEEDS = st.integers(0, 10_000)


@given(SEEDS, st.integers(1, 60))
def test_the_default_is_top_leverage_exactly(seed, n):
    candidates = random_candidates(seed, 60, levels=9)
    scores = candidates.scores.tolist()
    pairs = sorted(zip((-candidates.scores).tolist(), candidates.rows.tolist(), strict=True))
    chosen = select_rows(candidates, n, strategy="top-leverage")
    assert chosen.rows.tolist() == sorted(row for _, row in pairs[:n])
    assert chosen.rows.dtype == np.int64
    assert (chosen.eligible, chosen.lowest_score) == (60, -pairs[n - 1][0])
    assert chosen.ties_at_cut == scores.count(chosen.lowest_score)
    assert (chosen.refused.tolist(), chosen.strata, chosen.notes) == ([], {}, ())
    assert candidates.scores.tolist() == scores


def test_ties_at_the_cut_are_filled_in_pool_order():
    scores = np.array([0.1, 0.5, 0.5, 0.5, 0.7, 0.5])
    chosen = select_rows(Candidates(np.arange(0, 60, 10), scores, np.zeros(6)), 3, strategy="top-leverage")
    assert chosen.rows.tolist() == [10, 20, 40]
    assert (chosen.lowest_score, chosen.ties_at_cut) == (0.5, 4)


@given(st.sampled_from(list(STRATEGIES)), SEEDS, st.integers(1, 20), st.sets(st.integers(0, 19)), image_lists(20))
@settings(max_examples=60)
def test_included_rows_are_chosen_and_limits_kept(name, seed, n, included, lists):
    candidates = random_candidates(seed, 20)
    mask = np.isin(np.arange(20), list(included))
    arguments = {"strategy": name, "included": mask, "images": row_images(lists), "max_per_image": 2}
    try:
        selection = select_rows(candidates, n, **arguments)
    except BudgetError:
        return  # too many included, or too few rows by their images: see below
    places = set(places_of(candidates, selection).tolist())
    assert len(places) == n
    assert included <= places
    by_included = times_shown(lists, included)
    for code, times in times_shown(lists, places).items():
        assert times <= max(2, by_included.get(code, 0))
    assert not set(selection.refused.tolist()) & set(selection.rows.tolist())
    assert selection.lowest_score == candidates.scores[list(places)].min()


@given(st.sampled_from(NESTING), SEEDS, st.integers(1, 30), st.integers(1, 30), st.sets(st.integers(0, 29), max_size=5))
@settings(max_examples=60)
def test_budgets_nest(name, seed, few, many, included):
    few, many = sorted((max(few, len(included)), max(many, len(included))))
    candidates = random_candidates(seed, 30, levels=6)
    mask = np.isin(np.arange(30), list(included))
    small, large = (select_rows(candidates, n, strategy=name, included=mask) for n in (few, many))
    assert set(small.rows.tolist()) <= set(large.rows.tolist())


@given(
    st.sampled_from([name for name in NESTING if STRATEGIES[name].nests_limited]),
    SEEDS,
    st.sets(st.integers(0, 29), max_size=4),
    image_lists(30, images=12),
)
@settings(max_examples=60)
def test_budgets_nest_under_a_limit_of_rows_an_image(name, seed, included, lists):
    candidates = random_candidates(seed, 30, levels=6)
    mask = np.isin(np.arange(30), list(included))
    earlier = set()
    for n in range(max(1, len(included)), 31):
        try:
            selection = select_rows(
                candidates, n, strategy=name, included=mask, images=row_images(lists), max_per_image=3
            )
        except BudgetError:
            return
        assert earlier <= set(selection.rows.tolist())
        earlier = set(selection.rows.tolist())


@given(SEEDS, st.integers(1, 40), st.sampled_from(["proportional", "equal", {"a": 3, "b": 0.5, "c": 1}]))
def test_each_stratum_is_chosen_from_by_itself(seed, n, quotas):
    candidates = random_candidates(seed, 40, levels=12)
    codes = np.random.default_rng(seed).integers(0, 3, 40)
    selection = select_rows(
        candidates, n, strategy="top-leverage", strata=Strata(codes, ("a", "b", "c")), quotas=quotas
    )
    assert sum(share.chosen for share in selection.strata.values()) == len(selection.rows) == n
    assert sum(share.quota for share in selection.strata.values()) == n
    chosen = np.isin(candidates.rows, selection.rows)
    for code, share in enumerate(selection.strata.values()):
        members = np.flatnonzero(codes == code)
        assert share.candidates == len(members)
        assert share.chosen == chosen[members].sum()
        best = members[np.lexsort((members, -candidates.scores[members]))][: share.chosen]
        assert chosen[best].all()
    met = all(share.chosen == share.quota for share in selection.strata.values())
    assert met == (not [note for note in selection.notes if "quota is" in note])


def strata_of(*sizes):
    return Strata(np.repeat(np.arange(len(sizes)), sizes), tuple("abcdefghijklmnop"[: len(sizes)]))


def test_a_stratum_that_has_too_few_rows_is_told_and_made_up_for():
    candidates = random_candidates(0, 34)
    selection = select_rows(candidates, 18, strategy="top-leverage", strata=strata_of(4, 10, 20), quotas="equal")
    assert [share.chosen for share in selection.strata.values()] == [4, 7, 7]
    assert selection.notes == (
        "stratum 'a' gives 4 rows where its quota is 6: it has no more, others give the rest",
        "stratum 'b' gives 7 rows where its quota is 6: it makes up for others",
        "stratum 'c' gives 7 rows where its quota is 6: it makes up for others",
    )


def test_a_stratum_whose_images_have_their_share_is_told_and_made_up_for():
    candidates = random_candidates(1, 20)
    images = row_images([[0]] * 10 + [[code] for code in range(1, 11)])
    selection = select_rows(
        candidates, 10, strategy="top-leverage", strata=strata_of(10, 10), images=images, max_per_image=2
    )
    assert [share.chosen for share in selection.strata.values()] == [2, 8]
    assert "images that have their share" in selection.notes[0]
    assert len(selection.refused) == 8


def test_included_rows_beyond_a_quota_leave_fewer_places_to_the_others():
    candidates = random_candidates(2, 20)
    included = np.arange(20) < 8
    selection = select_rows(candidates, 10, strategy="top-leverage", strata=strata_of(10, 10), included=included)
    assert [(share.quota, share.chosen) for share in selection.strata.values()] == [(5, 8), (5, 2)]
    assert "'a' gives 8 rows where its quota is 5: so many of its rows are included" in selection.notes[0]
    assert "included rows of others have its places" in selection.notes[1]


def test_many_notes_are_counted():
    selection = select_rows(
        random_candidates(3, 46), 44, strategy="half", strata=strata_of(*[1] * 15, 31), quotas="equal"
    )
    assert len(selection.notes) == 11
    assert selection.notes[-1] == "6 more strata give another number of rows than their quota"


def test_numbers_that_sum_to_something_else_are_proportions_and_told():
    arguments = {"strategy": "top-leverage", "strata": strata_of(10, 10)}
    notes = select_rows(random_candidates(4, 20), 6, quotas={"a": 4, "b": 4}, **arguments).notes
    assert notes == ("the quotas sum to 8 and the budget is 6 rows, so they were taken as proportions",)
    assert select_rows(random_candidates(4, 20), 6, quotas={"a": 2, "b": 4}, **arguments).notes == ()
    assert select_rows(random_candidates(4, 20), 6, quotas={"a": 0.2, "b": 0.4}, **arguments).notes == ()


@pytest.mark.parametrize(
    ("n", "arguments", "message", "possible"),
    [
        (13, {}, "asks for 13 rows and only 12 can be chosen", 12),
        (3, {"included": np.arange(12) < 5}, "5 rows are to be included, and the budget is 3 rows", 5),
        (9, {"images": row_images([[0, 1]] * 12), "max_per_image": 2}, "only 2 can be chosen with at most 2", 2),
        (9, {"strata": strata_of(4, 8), "quotas": {"a": 1}}, "only 4 can be chosen with these quotas", 4),
    ],
)
def test_budgets_that_cannot_be_met_name_what_can(n, arguments, message, possible):
    with pytest.raises(BudgetError, match=message) as raised:
        select_rows(random_candidates(5, 12), n, strategy="top-leverage", **arguments)
    assert raised.value.possible == possible


def test_misuse_is_refused():
    candidates = random_candidates(6, 12)
    bare = Candidates(candidates.rows, candidates.scores, candidates.draws, candidates.vision)
    with pytest.raises(OptionError, match="joint-leverage-sampling needs instruction vectors"):
        select_rows(bare, 3, strategy="joint-leverage-sampling")
    with pytest.raises(OptionError, match="unknown strategy"):
        select_rows(candidates, 3, strategy="best")
    with pytest.raises(ValueError, match="at least 1: 0"):
        select_rows(candidates, 0, strategy="half")
    with pytest.raises(ValueError, match="included must be one value for each"):
        select_rows(candidates, 3, strategy="half", included=np.zeros(3, np.bool_))
