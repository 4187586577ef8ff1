"""``python -m edge_runtime``: the same as the command ``edge-runtime``."""

from edge_runtime.cli import main

if __name__ == "__main__":
    main()
