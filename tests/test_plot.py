"""Plots of a run: what is drawn is what the run folder holds, told by a second road; misuse draws nothing."""

from __future__ import annotations

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

mpl.use("agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import scalselect
from scalselect import plot
from scalselect.errors import OptionError, RunFolderError
from scalselect.run_folder import RunFolder
from scored_runs import clustered_vectors, scored_run

ROWS, UNUSABLE = 230, (3, 60, 61)
VECTORS = clustered_vectors(ROWS)
SCORED = np.array([row for row in range(ROWS) if row not in UNUSABLE])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = scored_run(tmp_path_factory.mktemp("plots"), VECTORS, unusable=UNUSABLE)
    return scalselect.select(folder, budget="16%")


@pytest.fixture
def ax():
    return Figure().add_subplot()


def plain_svd():
    """Return U, s of the centred vectors of the scored rows."""
    X = VECTORS[SCORED].astype(np.float64)
    U, s, _ = np.linalg.svd(X - X.mean(axis=0), full_matrices=False)
    return U, s


def columns(run):
    return pq.read_table(run.folder / "scores.parquet")


def with_column(run, name, values, tmp_path):
    """Return a copy of a run folder in which one column of the scores is another."""
    import shutil

    folder = RunFolder(shutil.copytree(run.folder, tmp_path / "copy"))
    scores = folder.scores_as_written()
    place = scores.table.schema.get_field_index(name)
    changed = scores.table.set_column(place, scores.table.schema.field(name), pa.array(values, scores.table[name].type))
    folder.write_scores(changed, scores.inputs)
    return folder.path


def offsets(collection):
    return np.asarray(collection.get_offsets())


def labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_spectrum_is_that_of_a_plain_svd(run, ax):
    values, energy = plot.spectrum(run, ax)
    _, s = plain_svd()
    k = int(np.argmax(np.cumsum(s**2) / np.sum(s**2) >= 0.9)) + 1
    assert values is ax
    line, at_k = values.get_lines()
    held, threshold = energy.get_lines()
    np.testing.assert_array_equal(line.get_xdata(), np.arange(1, s.size + 1))
    np.testing.assert_allclose(line.get_ydata(), s, rtol=1e-5)
    np.testing.assert_allclose(held.get_ydata(), np.cumsum(s**2) / np.sum(s**2), rtol=1e-6)
    assert list(at_k.get_xdata()) == [k, k]
    assert list(threshold.get_ydata()) == [0.9, 0.9]
    assert values.get_yscale() == "log"
    assert f"{s[k - 1] / s[k]:.3g}" in at_k.get_label()
    assert len(labels(energy)) == 4


def test_a_rank_that_was_given_has_no_threshold(run, ax, tmp_path):
    folder = scored_run(tmp_path, VECTORS, score=False)
    scalselect.score(folder, rank=4)
    values, energy = plot.spectrum(folder, ax)
    assert len(energy.get_lines()) == 1
    assert list(values.get_lines()[1].get_xdata()) == [4, 4]


def test_leverage_curve_is_exact_at_each_of_its_points(run, ax):
    assert plot.leverage_curve(run, ax) is ax
    curve, random, dot = ax.get_lines()
    table = columns(run)
    scores = np.sort(np.array([score for score in table["leverage_score"].to_pylist() if score is not None]))[::-1]
    shares, held = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    counts = np.rint(shares * scores.size).astype(int)
    np.testing.assert_allclose(shares, counts / scores.size)
    np.testing.assert_allclose(held, [scores[:count].sum() / scores.sum() for count in counts], rtol=1e-9, atol=1e-12)
    assert (counts[0], counts[-1], held[-1]) == (0, scores.size, pytest.approx(1))
    assert list(random.get_ydata()) == [0, 1]
    n = len(run.rows)
    assert list(dot.get_xdata()) == [pytest.approx(n / scores.size)]
    assert list(dot.get_ydata()) == [pytest.approx(run.scores[run.rows].sum() / scores.sum())]
    assert n / scores.size in shares


def test_a_curve_of_many_rows_has_few_points(run, ax, monkeypatch):
    monkeypatch.setattr(plot, "_CURVE_POINTS", 20)
    plot.leverage_curve(run, ax)
    curve = ax.get_lines()[0]
    assert 15 < len(curve.get_xdata()) < 32
    assert len(run.rows) / SCORED.size in curve.get_xdata()


def test_without_a_choice_there_is_no_dot(ax, tmp_path):
    plot.leverage_curve(scored_run(tmp_path, VECTORS), ax)
    assert len(ax.get_lines()) == 2


def test_one_dimension_makes_no_map(tmp_path, ax):
    folder = scored_run(tmp_path / "run", VECTORS)
    scalselect.score(folder, rank=1)
    with pytest.raises(OptionError, match="a map needs two coordinates, and the dominant subspace of this run has 1"):
        plot.map(folder, ax=ax)
    assert not ax.collections


@pytest.mark.parametrize("pair", [(0, 1), (3, 1)])
def test_map_by_score(run, ax, pair):
    assert plot.map(run.folder, pair, ax=ax) is ax
    (drawn,) = ax.collections
    U, _ = plain_svd()
    scores = run.scores[SCORED]
    order = np.argsort(scores, kind="stable")
    np.testing.assert_array_equal(drawn.get_array(), scores[order])
    found = offsets(drawn)
    for place, coordinate in enumerate(pair):
        wanted = U[order, coordinate]
        sign = np.sign(wanted @ found[:, place])  # directions have no sign of their own
        np.testing.assert_allclose(found[:, place] * sign, wanted, atol=1e-5)
    assert drawn.colorbar.ax.get_ylabel() == "leverage score"
    assert ax.get_xlabel() == f"dominant coordinate {pair[0] + 1}"


def test_squares_of_all_coordinates_sum_to_the_scores(run):
    k = run.summary["subspace"]["k"]
    squares = np.zeros(SCORED.size)
    for first in range(0, k, 2):
        axes = plot.map(run, (first, (first + 1) % k), ax=Figure().add_subplot())
        found = offsets(axes.collections[0])[np.argsort(np.argsort(run.scores[SCORED], kind="stable"))] ** 2
        squares += found[:, 0] + (found[:, 1] if first + 1 < k else 0)
    np.testing.assert_allclose(squares, run.scores[SCORED], rtol=1e-4)


def test_map_by_choice(run, ax):
    plot.map(run, colour="choice", ax=ax)
    others, chosen = ax.collections
    assert labels(ax) == ["not chosen", "chosen"]
    assert len(offsets(others)) == SCORED.size - len(run.rows)
    coordinates = RunFolder(run.folder).read_coordinates()
    inside = np.isin(coordinates.rows, run.rows)
    np.testing.assert_array_equal(offsets(chosen), coordinates.vision[inside, :2])


def test_map_draws_a_seeded_part_of_many_rows(run):
    def drawn(**given):
        axes = plot.map(run, ax=Figure().add_subplot(), points=50, **given)
        return axes.collections[0].get_array()

    assert len(drawn()) == len(set(drawn())) == 50
    assert set(drawn()) <= set(run.scores[SCORED])
    np.testing.assert_array_equal(drawn(), drawn(seed=0))
    assert list(drawn()) != list(drawn(seed=1))


def test_largest_groups_have_a_colour_and_the_rest_share_one(run, ax, tmp_path):
    names = [f"set {min(row % 16, 9)}" for row in range(ROWS)]  # of ten, set 9 is the largest
    plot.map(with_column(run, "source", names, tmp_path), colour="source", ax=ax)
    shown = labels(ax)
    assert shown[:2] == ["4 others", "set 9"]
    assert len(shown) == 7
    counted = [sum(1 for row in SCORED if names[row] == name) for name in shown[1:]]
    assert [len(offsets(part)) for part in ax.collections] == [SCORED.size - sum(counted), *counted]
    looks = {(tuple(part.get_facecolor()[0]), part.get_paths()[0].vertices.tobytes()) for part in ax.collections}
    assert len(looks) == 7


def test_map_by_stratum(run, ax, tmp_path):
    strata = ["even" if row % 2 == 0 else "odd" for row in range(ROWS)]
    plot.map(with_column(run, "stratum", strata, tmp_path), colour="stratum", ax=ax)
    sizes = {name: len(offsets(part)) for name, part in zip(labels(ax), ax.collections, strict=True)}
    assert sizes == {name: sum(strata[row] == name for row in SCORED) for name in ("even", "odd")}


def test_names_from_the_data_are_drawn_as_they_are(run, ax, tmp_path):
    names = [r"$\frac{" if row % 2 else "_hidden\x1b[31m$x$" for row in range(ROWS)]
    plot.map(with_column(run, "source", names, tmp_path), colour="source", ax=ax)
    ax.figure.canvas.draw()  # where a formula would be parsed
    assert sorted(labels(ax)) == [r" _hidden\u001b[31m\$x\$", r"\$\frac{"]


def test_style_is_the_users(run, ax):
    values, _ = plot.spectrum(run, ax, color="black", linewidth=3)
    assert (values.get_lines()[0].get_color(), values.get_lines()[0].get_linewidth()) == ("black", 3)
    (drawn,) = plot.map(run, ax=Figure().add_subplot(), cmap="magma", s=30).collections
    assert (drawn.cmap.name, list(drawn.get_sizes())) == ("magma", [30])
    curve = plot.leverage_curve(run, Figure().add_subplot(), linestyle=":").get_lines()[0]
    assert curve.get_linestyle() == ":"


@pytest.mark.parametrize("draw", [plot.spectrum, plot.leverage_curve, plot.map])
def test_a_new_figure_is_one_of_pyplot(run, draw):
    plt.close("all")
    try:
        axes = draw(run)
        assert plt.gcf() is (axes[0] if draw is plot.spectrum else axes).figure
    finally:
        plt.close("all")


def test_axes_that_are_given_touch_no_pyplot(run):
    code = (
        "import sys\nfrom matplotlib.figure import Figure\nfrom scalselect import plot\n"
        "for draw in (plot.spectrum, plot.leverage_curve, plot.map):\n"
        "    draw(sys.argv[1], ax=Figure().add_subplot())\n"
        "print(sorted({'matplotlib.pyplot', 'torch', 'transformers'} & set(sys.modules)))\n"
        "plot.map(sys.argv[1])\nprint('matplotlib.pyplot' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code, str(run.folder)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == ["[]", "True"]


def test_matplotlib_is_asked_for_where_it_is_missing():
    code = (
        "import sys\nsys.modules['matplotlib'] = None\n"
        "try:\n    import scalselect.plot\nexcept ImportError as error:\n    print(error)\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.startswith("scalselect.plot needs matplotlib 3.9 or later: pip install 'scalselect[plot]' (")


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        (
            {"colour": "sorce"},
            OptionError,
            r"one of score, choice, source, stratum: 'sorce' \(did you mean `source`\?\)",
        ),
        ({"pair": (0, 0)}, OptionError, r"two different coordinates of 0 to \d: \(0, 0\)"),
        ({"pair": (0, 99)}, OptionError, "two different coordinates"),
        ({"pair": (-1, 0)}, OptionError, "two different coordinates"),
        ({"pair": (0, 1, 2)}, OptionError, "two different coordinates"),
        ({"pair": (True, 0)}, OptionError, "two different coordinates"),
        ({"pair": 1}, OptionError, "two different coordinates"),
        ({"points": 0}, OptionError, "points must be a whole number of at least 1: 0"),
        ({"points": None}, OptionError, "points must be a whole number of at least 1: None"),
        ({"seed": -1}, OptionError, "seed must be a whole number, not negative: -1"),
        ({"c": "red"}, OptionError, "`c` says what `colour` names"),
        ({"glow": 3}, OptionError, r"style cannot be drawn: {'glow': 3} \(.*glow"),
        ({"colour": "stratum"}, RunFolderError, "no strata to colour by"),
    ],
)
def test_misuse_of_the_map_draws_nothing(run, ax, given, error, told):
    with pytest.raises(error, match=told):
        plot.map(run, ax=ax, **given)
    assert not ax.has_data()


@pytest.mark.parametrize("draw", [plot.spectrum, plot.leverage_curve, plot.map])
def test_misuse_of_every_plot_draws_nothing(run, ax, draw, tmp_path):
    with pytest.raises(OptionError, match="ax must be axes of matplotlib: Figure"):
        draw(run, ax=Figure())
    with pytest.raises(OptionError, match="run must be a RunResult or a run folder: dict"):
        draw({}, ax=ax)
    with pytest.raises(RunFolderError, match="not a run folder"):
        draw(tmp_path, ax=ax)
    with pytest.raises(RunFolderError, match="no scores yet"):
        draw(scored_run(tmp_path / "unscored", VECTORS[:60], score=False), ax=ax)
    with pytest.raises(OptionError, match="style cannot be drawn"):
        draw(run, ax=ax, glow=1)
    assert isinstance(ax, Axes)
    assert not ax.has_data()


def test_nothing_to_colour_a_choice_by(ax, tmp_path):
    with pytest.raises(RunFolderError, match="nothing was selected yet"):
        plot.map(scored_run(tmp_path, VECTORS), colour="choice", ax=ax)
