"""The same face over an OpenAI-compatible server, by the openai client (extra ``remote``)."""
