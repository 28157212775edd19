"""A scikit-learn estimator that scores and chooses the rows of any matrix as this package does those of a pool."""

from __future__ import annotations

import warnings
from decimal import Decimal
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np

try:
    from sklearn.base import BaseEstimator
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"scalselect.sklearn needs scikit-learn 1.6 or later: pip install 'scalselect[sklearn]' ({error})"
    ) from error

from scalselect.errors import BudgetError, OptionError, ScalselectWarning, WorkError
from scalselect.option_values import check_fraction, check_positive
from scalselect.records import Budget
from scalselect.selection.budget import rows_to_choose
from scalselect.selection.ranking import order_by_score
from scalselect.subspace.blocks import normalised
from scalselect.subspace.dominant import GAP_WARNING, dominant_subspace, subspace_warnings
from scalselect.subspace.leverage import as_written, leverage_scores
from scalselect.subspace.scatter import ScatterSums, shift_from

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from scalselect.records import DominantSubspace

_DEFAULT_SHARE = 0.16  # of the rows; the method's own
_NUMBER_TYPES = [np.float64, np.float32]  # float32 stays; everything else becomes float64
_NORMALISED_AT_ONCE = 8192
_AFTER_FIT_ONLY = (
    "is known after `fit` only: rows given to `partial_fit` are not kept; give them to `score_samples` afterwards"
)


class LeverageSelector(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Choose the rows with the highest leverage scores on the dominant subspace of a matrix.

    With ``Xc = U S V^T`` the matrix less its mean row, and k the smallest number of singular values whose squares hold
    the share `energy` of the sum of all squares, the leverage score of row i is ``sum_{j<=k} U_ij^2``: between 0 and
    1, and k in sum over all rows. (Wu et al., arXiv 2602.11636, section 3.3.) U is never formed.

    It chooses rows, not features, so it is no transformer: use ``X[selector.selected_idx_]``, and the same of y.

    Parameters
    ----------
    n_to_select
        A whole number of rows; or a share of the rows above 0 and at most 1, rounded down but at least one row; None
        for 0.16.
    energy
        Share of the squared singular values that the subspace holds, between 0 and 1, both excluded.
    rank
        Dimensions of the subspace, whatever energy they hold; None: as `energy` says.
    centring
        Whether the mean is taken from the rows.
    standardise_columns
        Whether every feature is divided by its standard deviation.
    normalise_rows
        Whether every row is divided by its norm before anything else.

    Attributes
    ----------
    selected_idx_
        Positions of the chosen rows, ascending, int64 [selected]; of equal scores the first rows are chosen. Only
        after `fit`.
    leverage_scores_
        Score of every row, rounded to 12 significant digits, so that equal rows have equal scores, float64
        [n_samples]. Only after `fit`.
    components_
        Basis of the subspace, one dimension a row, float64 [k, n_features].
    singular_values_
        The k largest singular values, float64 [k].
    mean_
        What is taken from every row: the mean, or zeros without `centring`, float64 [n_features].
    n_components_
        Number of dimensions k.
    energy_
        Share of the squared singular values that they hold.
    gap_
        s_k / s_{k+1}, infinite where s_{k+1} is zero. Where it is near 1 the subspace is not unique; below 1.001
        `fit` warns.
    n_samples_seen_
        Number of rows that the subspace was found from.
    n_features_in_
        Number of features.
    feature_names_in_
        Names of the features, where X had such.

    Examples
    --------
    >>> import numpy as np
    >>> from scalselect.sklearn import LeverageSelector
    >>> X = np.array([[0.0, 1.0], [0.1, 0.0], [9.0, 1.0], [0.2, 0.0], [0.1, 1.0]])
    >>> selector = LeverageSelector(n_to_select=1).fit(X)
    >>> selector.selected_idx_
    array([2])
    """

    _sums: ScatterSums | None = None
    _subspace: DominantSubspace | None = None  # of the sums; found when it is first asked for
    _scores: NDArray[np.float64] | None = None
    _selected: NDArray[np.int64] | None = None

    def __init__(
        self,
        n_to_select: float | None = None,
        *,
        energy: float = 0.9,
        rank: int | None = None,
        centring: bool = True,
        standardise_columns: bool = False,
        normalise_rows: bool = False,
    ) -> None:
        self.n_to_select = n_to_select
        self.energy = energy
        self.rank = rank
        self.centring = centring
        self.standardise_columns = standardise_columns
        self.normalise_rows = normalise_rows

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002  as scikit-learn calls it
        """Find the subspace of all rows, score every row, choose the highest.

        Parameters
        ----------
        X
            Float32 or float64 [n_samples, n_features]; other numbers become float64. A memory-mapped array is read
            piece by piece.
        y
            Not used.

        Raises
        ------
        ValueError
            If X is no finite, dense matrix of at least two rows that differ, or a parameter cannot be right.
        """
        rows = validate_data(self, X, dtype=_NUMBER_TYPES, ensure_min_samples=2)  # [n_samples, n_features]
        n = self._number_to_select(rows.shape[0])
        self._check_parameters()
        self._sums = None
        self._add(rows)
        try:
            subspace = self._found_subspace()
        except WorkError as error:
            raise ValueError(_without_advice(error)) from error
        self._scores = as_written(leverage_scores(rows, subspace))  # [n_samples]
        order = order_by_score(self._scores, np.arange(rows.shape[0]))
        self._selected = np.sort(order[:n])
        if subspace.gap - 1.0 < GAP_WARNING:
            warnings.warn(subspace_warnings(subspace)[0], ScalselectWarning, stacklevel=2)
        return self

    def partial_fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002  as scikit-learn calls it
        """Add rows to those that the subspace is found from; score rows with `score_samples` when all were added.

        Rows are not kept, so `leverage_scores_` and `selected_idx_` are not there afterwards.

        Parameters
        ----------
        X
            As of `fit`; one row is enough.
        y
            Not used.

        Raises
        ------
        ValueError
            If X is no finite, dense matrix, or has other features than before.
        """
        rows = validate_data(self, X, dtype=_NUMBER_TYPES, reset=self._sums is None)  # [n_samples, n_features]
        self._check_parameters()
        self._add(rows)
        return self

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the leverage scores of rows on the subspace that was found, float64 [n_samples].

        Those of rows that it was found from are their `leverage_scores_`; others may exceed 1.

        Parameters
        ----------
        X
            Float32 or float64 [n_samples, n_features].

        Raises
        ------
        NotFittedError
            If there is no subspace yet.
        ValueError
            If X is no finite, dense matrix, or has other features than before.
        """
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=_NUMBER_TYPES, reset=False)  # [n_samples, n_features]
        return as_written(leverage_scores(rows, self._dominant_subspace()))

    @property
    def selected_idx_(self) -> NDArray[np.int64]:
        """Positions of the chosen rows."""
        check_is_fitted(self)
        if self._selected is None:
            raise NotFittedError(f"selected_idx_ {_AFTER_FIT_ONLY}")
        return self._selected

    @property
    def leverage_scores_(self) -> NDArray[np.float64]:
        """Score of every row."""
        check_is_fitted(self)
        if self._scores is None:
            raise NotFittedError(f"leverage_scores_ {_AFTER_FIT_ONLY}")
        return self._scores

    @property
    def components_(self) -> NDArray[np.float64]:
        """Basis of the subspace."""
        return self._dominant_subspace().basis.T

    @property
    def singular_values_(self) -> NDArray[np.float64]:
        """The k largest singular values."""
        return self._dominant_subspace().singular_values

    @property
    def mean_(self) -> NDArray[np.float64]:
        """What is taken from every row."""
        return self._dominant_subspace().mean

    @property
    def n_components_(self) -> int:
        """Number of dimensions k."""
        return self._dominant_subspace().rank

    @property
    def energy_(self) -> float:
        """Share of the squared singular values."""
        return self._dominant_subspace().energy

    @property
    def gap_(self) -> float:
        """s_k / s_{k+1}."""
        return self._dominant_subspace().gap

    @property
    def n_samples_seen_(self) -> int:
        """Number of rows that the subspace was found from."""
        check_is_fitted(self)
        return 0 if self._sums is None else self._sums.rows

    def __sklearn_is_fitted__(self) -> bool:
        return self._sums is not None

    def _add(self, rows: NDArray[Any]) -> None:
        """Add rows to the sums; what was found from fewer rows holds no more."""
        self._subspace = self._scores = self._selected = None
        for block in self._blocks(rows):
            if self._sums is None:
                self._sums = ScatterSums(shift_from(block))
            self._sums.add(block)

    def _blocks(self, rows: NDArray[Any]) -> Iterator[NDArray[Any]]:
        if not self.normalise_rows:
            yield rows
            return
        for start in range(0, rows.shape[0], _NORMALISED_AT_ONCE):
            yield normalised(rows[start : start + _NORMALISED_AT_ONCE])

    def _dominant_subspace(self) -> DominantSubspace:
        """Return the subspace of all rows seen. Raises NotFittedError where these span none."""
        check_is_fitted(self)
        try:
            return self._found_subspace()
        except WorkError as error:
            raise NotFittedError(_without_advice(error)) from error

    def _found_subspace(self) -> DominantSubspace:
        if self._subspace is None:
            if self._sums is None:
                raise WorkError("no rows were given")
            self._subspace = dominant_subspace(
                self._sums,
                energy=self.energy,
                rank=self.rank,
                centring=self.centring,
                standardise=self.standardise_columns,
                normalised_rows=self.normalise_rows,
            )
        return self._subspace

    def _check_parameters(self) -> None:
        try:
            check_fraction("energy", self.energy)
            check_positive("rank", self.rank)
        except OptionError as error:
            raise ValueError(str(error)) from error
        for name in ("centring", "standardise_columns", "normalise_rows"):
            if not isinstance(getattr(self, name), (bool, np.bool_)):
                raise ValueError(f"{name} must be True or False: {getattr(self, name)!r}")  # noqa: TRY004  as above

    def _number_to_select(self, n_samples: int) -> int:
        wanted = _DEFAULT_SHARE if self.n_to_select is None else self.n_to_select
        advice = "give a whole number of rows from 1 on, or a share of them above 0 and at most 1"
        if isinstance(wanted, bool) or not isinstance(wanted, Real):
            raise ValueError(f"n_to_select cannot be read: {wanted!r} ({advice})")  # noqa: TRY004  as scikit-learn does
        if not isinstance(wanted, Integral):
            if not 0 < wanted <= 1:
                raise ValueError(f"n_to_select must be a share above 0 and at most 1: {wanted} ({advice})")
            try:
                return rows_to_choose(Budget(percent=100 * Decimal(repr(float(wanted)))), n_samples)
            except BudgetError:
                return 1
        if not 1 <= wanted <= n_samples:
            raise ValueError(f"n_to_select must lie between 1 and the {n_samples} rows of X: {wanted} ({advice})")
        return int(wanted)


def _without_advice(error: WorkError) -> str:
    """Return what went wrong without the words in brackets, which are for pools of images."""
    return str(error).partition(" (")[0]
