"""The way of the workshop: torch and fastai imported, the checkpoint loaded, one DICOM file answered.

Needs the extra [train]: python benchmarks/torch_fastai.py RUN FILE.dcm
"""

import json
import sys

import numpy as np
import pydicom
import torch

from train.torchvision_ops import declare_missing_operators

declare_missing_operators()

from fastai.vision.all import to_np  # noqa: E402

from train.preprocessing import Normalization, squish  # noqa: E402
from train.run import load_run  # noqa: E402

folder, file = sys.argv[1:]
run = load_run(folder)
dataset = pydicom.dcmread(file)
pixels = dataset.pixel_array.astype(np.float32)
image = torch.from_numpy((pixels - pixels.min()) / (pixels.max() - pixels.min()) * 255)[None, None]
with torch.inference_mode():
    scaled = Normalization(run.spec.normalization)(squish(image, run.spec.image_size))
    probabilities = (run.load_model()(scaled) / run.spec.temperature).softmax(1)[0]
print(json.dumps({"file": file, "probabilities": to_np(probabilities).tolist()}))
