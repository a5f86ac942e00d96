"""Text -> issues. Pure functions: no model, no mlx, no file."""
