"""What a chosen set is like, beside an equally large random one, and how two runs agree; numpy and scipy only."""
