"""Reads any file a user has into the form that the model may see."""
