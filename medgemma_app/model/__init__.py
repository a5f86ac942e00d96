"""Loading and decoding with mlx-vlm."""
