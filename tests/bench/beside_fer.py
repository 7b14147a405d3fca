#!/usr/bin/env python3
"""The default bundle's face encoder beside `fer` (mini-Xception, PyPI), in one run: accuracy on FER2013's PublicTest (all of it, and those of its pictures of
which Training has no copy: `fer` learnt from Training, too), and time for a face.

In an environment of its own, never part of `make test`:

    python3 -m venv /tmp/fer && /tmp/fer/bin/pip install fer==25.10.3 tensorflow-cpu onnxruntime "setuptools<81"
    /tmp/fer/bin/python tests/bench/beside_fer.py [--material ../shared/material] [--bundle models/default]

Both get the same 48x48 grey crops (no detector), one at a time, on one thread each; times are medians of rounds in turn. `fer` is asked through its own
class, so its preprocessing is its own.
"""
import argparse
import hashlib
import io
import math
import os
import statistics
import tarfile
import time
import tomllib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before onnxruntime is loaded: it posts facts about the machine otherwise

import numpy as np
import onnxruntime
import tensorflow
from PIL import Image

tensorflow.config.threading.set_intra_op_parallelism_threads(1)
tensorflow.config.threading.set_inter_op_parallelism_threads(1)
from fer.fer import FER

NAMES = {"neutral": "neutral", "happy": "happy", "sad": "sad", "angry": "angry", "fear": "fearful", "disgust": "disgusted", "surprise": "surprised"}


def public_test(material):
    """Pictures and labels, and of each whether Training has the same pixels."""
    faces, taught = [], set()
    with tarfile.open(os.path.join(material, "faces/fer2013_training_publictest.tar.xz")) as archive:
        for member in archive:
            if not member.name.endswith(".jpg"):
                continue
            _, split, label, _ = member.name.split("/")
            picture = np.asarray(Image.open(io.BytesIO(archive.extractfile(member).read())).convert("L"))
            pixels = hashlib.sha256(picture.tobytes()).digest()
            if split == "PublicTest":
                faces.append((picture, NAMES[label], pixels))
            else:
                taught.add(pixels)
    return [(picture, label, pixels in taught) for picture, label, pixels in faces]


class Ours:
    def __init__(self, bundle):
        with open(os.path.join(bundle, "manifest.toml"), "rb") as file:
            manifest = tomllib.load(file)
        entry = next(encoder for encoder in manifest["encoder"] if encoder["modality"] == "face")
        self.floor, self.classes = manifest["face"]["normalise"]["floor"], entry["classes"]
        # What the daemon runs on a processor.
        self.file = entry.get("int8", entry)["file"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(os.path.join(bundle, self.file), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def __call__(self, picture):
        values = picture.astype(np.float32) / 255
        values = (values - values.mean()) / max(values.std(), self.floor)
        _, logits = self.session.run(None, {self.input: values[None, None]})
        return self.classes[int(logits.argmax())]


class Theirs:
    def __init__(self, quantised):
        # Without its margin: these pictures are faces already.
        self.fer = FER(offsets=(0, 0), use_tflite=quantised)

    def __call__(self, picture):
        # Grey as it takes pictures: its box covers all of it.
        height, width = picture.shape
        scores = self.fer.detect_emotions(np.repeat(picture[:, :, None], 3, axis=2), face_rectangles=[(0, 0, width, height)])[0]["emotions"]
        return NAMES[max(scores, key=scores.get)]


def wilson(share, n, z=1.959964):
    middle, half = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--material", default=os.environ.get("EXPRESSD_MATERIAL", "../shared/material"))
    arguments.add_argument("--bundle", default="models/default")
    arguments = arguments.parse_args()
    faces = public_test(arguments.material)
    both = {"expressd": Ours(arguments.bundle), "fer, as it comes (8 bits)": Theirs(True), "fer, use_tflite=False": Theirs(False)}
    answers = {name: [net(picture) for picture, *_ in faces] for name, net in both.items()}
    right = {name: [answer == label for answer, (_, label, _) in zip(found, faces)] for name, found in answers.items()}
    times = {name: [] for name in both}
    for _ in range(7):
        for name, net in both.items():
            begun = time.perf_counter()
            for picture, *_ in faces[:25]:
                net(picture)
            times[name].append((time.perf_counter() - begun) / 25 * 1e3)
    for name in both:
        new = [is_right for is_right, (*_, is_copy) in zip(right[name], faces) if not is_copy]
        figures = []
        for what, judged in (("all", right[name]), ("new to both", new)):
            accuracy = sum(judged) / len(judged)
            low, high = wilson(accuracy, len(judged))
            figures.append(f"{what} {accuracy:.3f} ({low:.3f} to {high:.3f}, n {len(judged)})")
        print(f"{name}: accuracy {', '.join(figures)}, {statistics.median(times[name]):.2f} ms a face")


if __name__ == "__main__":
    main()
