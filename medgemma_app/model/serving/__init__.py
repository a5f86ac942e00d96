"""mlx_vlm.server's batching engine and chat endpoint, with this project's model, prompts and pictures."""
