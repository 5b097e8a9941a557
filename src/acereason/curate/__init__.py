"""From published sets to the prompts and traces that the recipe trains on, one step a file."""
