from itertools import permutations

import numpy as np
import pytest
from pools import random_candidates

from scalselect.errors import OptionError
from scalselect.selection.admission import Admission
from scalselect.selection.candidates import Candidates, draws_of
from scalselect.selection.sampling import joint_leverage, race_order
from scalselect.selection.strategies import STRATEGIES, strategy_named


def chosen(name, candidates, n):
    return STRATEGIES[name].choose(candidates, n, Admission(len(candidates))).tolist()


def probability_of(order, weights):
    """Of drawing exactly this order, one after another without replacement."""
    product, remaining = 1.0, sum(weights)
    for place in order:
        product *= weights[place] / remaining
        remaining -= weights[place]
    return product


def test_races_follow_the_probabilities_of_successive_sampling():
    weights = np.array([0.5, 0.1, 0.25, 0.15])
    draws = draws_of(3, 4 * 40_000).reshape(40_000, 4)
    seen = {}
    for one in draws:
        order = tuple(race_order(weights, one)[:2].tolist())
        seen[order] = seen.get(order, 0) + 1
    chi_square = 0.0
    for order in permutations(range(4), 2):
        expected = 40_000 * probability_of(order, weights)
        chi_square += (seen.get(order, 0) - expected) ** 2 / expected
    assert chi_square < 31.3  # 11 degrees of freedom: passed by 99.9 % of all seeds
    uniform = sum((seen.get(order, 0) - 40_000 / 12) ** 2 / (40_000 / 12) for order in permutations(range(4), 2))
    assert uniform > 1_000


def test_rows_of_weight_zero_come_last_even_at_a_draw_of_zero():
    weights, draws = np.array([0.0, 0.2, 0.0, 1e-300]), np.array([0.0, 0.0, 0.9, 0.5])
    assert race_order(weights, draws).tolist() == [1, 3, 0, 2]


def test_joint_leverage_is_the_sum_of_both_scores_over_their_ranks():
    candidates = random_candidates(1, 40, dimensions=3)
    expected = [
        sum(float(x) ** 2 for x in vision) / 3 + sum(float(x) ** 2 for x in instruction) / 4
        for vision, instruction in zip(candidates.vision, candidates.instruction, strict=True)
    ]
    np.testing.assert_allclose(joint_leverage(candidates), expected, rtol=1e-12)


def test_top_leverage_is_the_head_of_sorted_pairs():
    candidates = random_candidates(2, 100, levels=9)
    pairs = sorted(zip((-candidates.scores).tolist(), range(100), strict=True))
    assert chosen("top-leverage", candidates, 37) == [place for _, place in pairs[:37]]


@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_half_is_half_top_leverage_and_half_the_smallest_draws_of_the_rest(n):
    candidates = random_candidates(3, 20)
    top = set(chosen("top-leverage", candidates, n - n // 2))
    rest = sorted(set(range(20)) - top, key=lambda place: candidates.draws[place])
    assert set(chosen("half", candidates, n)) == top | set(rest[: n // 2])


def test_sampling_prefers_leverage_and_joint_sampling_both_kinds_of_vectors():
    size = 2_000
    rng = np.random.default_rng(4)
    vision, instruction = np.ones((2, size, 2), dtype=np.float32)
    vision[: size // 2] *= 2  # 4 to 1 in leverage
    instruction[::2] *= 3
    candidates = Candidates(np.arange(size), (vision**2).sum(1) / 8.0, rng.random(size), vision, instruction)
    first = np.array(chosen("leverage-sampling", candidates, 200))
    assert 0.72 < (first < size // 2).mean() < 0.86  # 0.8 but for what was drawn already
    assert 0.4 < (first % 2 == 0).mean() < 0.6
    joint = np.array(chosen("joint-leverage-sampling", candidates, 200))
    assert 0.52 < (joint < size // 2).mean() < 0.68  # (4 + 9 + 4 + 1) / 30
    assert 0.7 < (joint % 2 == 0).mean() < 0.85  # (4 + 9 + 1 + 9) / 30


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_says_what_it_is_and_can_take_all_or_one(name):
    strategy = STRATEGIES[name]
    assert strategy.name == name
    assert strategy.definition.endswith(".")
    assert strategy.needs <= strategy.reads <= {"vision", "instruction"}
    candidates = random_candidates(5, 25)
    assert sorted(chosen(name, candidates, 25)) == list(range(25))
    assert len(chosen(name, candidates, 1)) == 1
    assert chosen(name, candidates, 0) == []
    assert chosen(name, candidates, 9) == chosen(name, candidates, 9)


@pytest.mark.parametrize("name", [name for name in STRATEGIES if STRATEGIES[name].reads])
def test_vectors_are_read_where_a_strategy_says_so(name):
    candidates = random_candidates(6, 60)
    other = random_candidates(7, 60)
    for vectors in STRATEGIES[name].reads:
        arrays = {field: getattr(candidates, field) for field in ("rows", "scores", "draws", "vision", "instruction")}
        changed = Candidates(**{**arrays, vectors: getattr(other, vectors)}, seed=candidates.seed)
        assert set(chosen(name, changed, 12)) != set(chosen(name, candidates, 12))


def test_unknown_strategies_are_refused_with_a_near_name():
    assert strategy_named("half").name == "half"
    with pytest.raises(OptionError, match=r"'top-levrage' \(did you mean `top-leverage`\?\)"):
        strategy_named("top-levrage")
