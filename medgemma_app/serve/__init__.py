"""A warm server: the model is loaded once, and programs on this machine ask it over HTTP."""
