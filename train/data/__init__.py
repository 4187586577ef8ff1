"""Data sets for training: the COVIDx builder, synthetic radiographs, and the folder both of them write."""
