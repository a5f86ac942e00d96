"""How the demo checkpoint is trained; not part of the wheel."""
