"""The dominant subspace of all representations and the leverage of each row on it; numpy and scipy only."""
