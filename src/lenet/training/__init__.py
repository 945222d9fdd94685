"""Training: from a recipe to a run directory with a model."""
