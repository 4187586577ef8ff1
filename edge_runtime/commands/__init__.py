"""The commands of ``edge-runtime``, one module each, imported when they are called."""
