"""The only folder that knows mlx, mlx_vlm and transformers."""
