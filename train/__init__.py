"""Training: the COVIDx builder, synthetic radiographs, the fastai pipeline and its evaluation."""
