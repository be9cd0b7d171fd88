"""Targets of a picture, with ONNX Runtime alone: python detect.py whole.onnx frame.png"""

import sys

import cv2
import onnxruntime

options = onnxruntime.SessionOptions()
options.log_severity_level = 3  # it warns of inputs that have a default
session = onnxruntime.InferenceSession(sys.argv[1], options)
frame = cv2.imread(sys.argv[2], cv2.IMREAD_UNCHANGED)  # (H, W), 8 or 16 bit
(targets,) = session.run(None, {"frame": frame.astype("uint16")})
for x, y, score in targets:
    print(f"{x:.2f} {y:.2f} {score:.3f}")
