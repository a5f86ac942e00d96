"""The embedded demo: a tiny checkpoint of the real architecture, and the drawing of what it was trained on."""
