"""The spectrum in words: how clear the cut is, by the gap and the number of rows; zeros are no singular values."""

from types import SimpleNamespace

import numpy as np
import pytest

from scalselect.report_page.spectrum_section import spectrum_section


def section_of(spectrum, k, rows=400, gap=None, threshold=0.9):
    spectrum = np.asarray(spectrum, dtype=np.float64)
    total = float((spectrum**2).sum())
    subspace = SimpleNamespace(
        rank=k,
        mean=np.zeros(64),
        rows=rows,
        singular_values=spectrum[:k],
        total_energy=total,
        energy=float((spectrum[:k] ** 2).sum()) / total,
        gap=spectrum[k - 1] / spectrum[k] if gap is None else gap,
        largest_dimension_energy=0.1,
    )
    folder = SimpleNamespace(read_subspace=lambda: subspace)
    run = {"score": {"energy": threshold, "rank": None}}
    return spectrum_section(SimpleNamespace(folder=folder, singular_values=spectrum, run=run))


@pytest.mark.parametrize(
    ("gap", "rows", "words"),
    [
        (1.0005, 10**6, "No gap at the cut"),
        (1.02, 10**6, "A narrow gap at the cut: singular value 2 is 2 % larger than the next. A slightly"),
        (1.08, 400, "8 % larger than the next; of 400 rows chance alone makes about 5 %. A slightly"),
        (1.08, 10**6, "A moderate gap"),
        (
            1.5,
            400,
            "A clear gap at the cut: singular value 2 is 50 % larger than the next.",
        ),
        (1.5, 10, "A narrow gap"),
        (1439.7, 400, "A clear gap at the cut: singular value 2 is 1,440 times the next."),
    ],
)
def test_the_gap_is_told_by_its_size_and_the_rows(gap, rows, words):
    told = section_of([9.0, 3.0, 3.0 / gap, 0.1 / gap], 2, rows).content["gap"]
    assert words in told.replace("\u202f", " ")


def test_zeros_are_not_drawn():
    content = section_of([9.0, 3.0, 1.0, 1e-8, 0.0, 0.0], 1).content
    assert content["shown"] == (
        "Shown: the first 3 of 6 singular values, computed of 64. The last 3 are zero up to rounding: "
        "the rows span no more than 3 dimensions."
    )
    assert content["values"].count('class="bar') == 2 * 3
    assert "down to 1;" in content["values"]
    assert section_of([9.0, 3.0, 1.0], 1).content["shown"] == ("Shown: all 3 singular values, computed of 64.")


def test_one_dimension_of_many():
    assert section_of([9.0, 1.0], 1).content["conclusion"].startswith("1 of 64 dimensions holds ")
