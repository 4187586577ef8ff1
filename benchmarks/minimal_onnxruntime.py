"""The least that answers one DICOM file on ONNX Runtime: what `edge-runtime predict` is measured against.

No bundle, no hash, no window, no refusal, no heat map: python benchmarks/minimal_onnxruntime.py MODEL.onnx
FILE.dcm
"""

import json
import sys

import numpy as np
import onnxruntime
import pydicom

model, file = sys.argv[1:]
dataset = pydicom.dcmread(file)
pixels = dataset.pixel_array.astype(np.float32)
if dataset.PhotometricInterpretation == "MONOCHROME1":
    pixels = pixels.max() - pixels
low, high = pixels.min(), pixels.max()
image = ((pixels - low) / (high - low) * 255).round().astype(np.uint8)[None, None]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
probabilities = session.run(["probabilities"], {"image": image})[0][0]
print(json.dumps({"file": file, "probabilities": probabilities.tolist()}))
