"""The page over a run's folder, as one HTML file, and the final table on a terminal."""
