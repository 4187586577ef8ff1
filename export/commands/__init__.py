"""The commands of ``python -m export``, one module each, imported when asked for."""
