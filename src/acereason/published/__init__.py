"""Data as others publish it: rows of their files, and the tests packed into them."""
