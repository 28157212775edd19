"""The page that shows a run: one self-contained HTML file, made from saved records alone."""
