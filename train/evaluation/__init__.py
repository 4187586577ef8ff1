"""The parts of ``train evaluate``: predictions, figures with intervals, shortcut checks, comparison, report."""
