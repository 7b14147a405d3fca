#!/usr/bin/env python3
"""Compares the default bundle's face encoder with `fer` (mini-Xception, PyPI) in one run.

On FER2013's PublicTest: accuracy by its own labels and by the first choice of FER+'s ten
annotators, cross-entropy of the scores to the annotators' votes, share of annotators that agree
with the predictions, and time a face. Each is given for all pictures, and for the pictures without
a copy in Training, because `fer` was trained on Training, too.

It runs in a separate environment and is not part of `make test`:

    python3 -m venv /tmp/fer
    /tmp/fer/bin/pip install fer==25.10.3 tensorflow-cpu onnxruntime "setuptools<81"
    /tmp/fer/bin/python tests/bench/beside_fer.py [--material DIR] [--bundle models/default]

Both get the same 48x48 grey crops (no detector), one at a time, on one thread each; times are
medians of rounds in turn. `fer` is called through its own class, with its own preprocessing.
"""

import argparse
import csv
import hashlib
import io
import math
import os
import statistics
import tarfile
import time
import tomllib
from dataclasses import dataclass

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
# Before the import: ONNX Runtime would send telemetry.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import numpy as np
import onnxruntime
import tensorflow
from PIL import Image

tensorflow.config.threading.set_intra_op_parallelism_threads(1)
tensorflow.config.threading.set_inter_op_parallelism_threads(1)
from fer.fer import FER

NAMES = {
    "neutral": "neutral",
    "happy": "happy",
    "sad": "sad",
    "angry": "angry",
    "fear": "fearful",
    "disgust": "disgusted",
    "surprise": "surprised",
}
COLUMNS = {
    "neutral": "neutral",
    "happiness": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fear": "fearful",
    "disgust": "disgusted",
    "surprise": "surprised",
}
# The trainer skips pictures with fewer votes for these seven, too.
LEAST = 5


@dataclass
class Face:
    picture: np.ndarray
    label: str
    # Votes by label name; None if there are too few or contempt has the most.
    shares: dict | None
    is_copy: bool

    @property
    def first(self):
        """The label with the most votes; None if it is not unique."""
        most = max(self.shares.values()) if self.shares else None
        firsts = [name for name, share in (self.shares or {}).items() if share == most]
        return firsts[0] if len(firsts) == 1 else None


def votes_of(material):
    votes = {}
    with open(os.path.join(material, "faces/ferplus_votes.csv"), newline="") as file:
        for row in csv.DictReader(file):
            counts = {name: int(row[column]) for column, name in COLUMNS.items()}
            if (
                row["split"] == "PublicTest"
                and sum(counts.values()) >= LEAST
                and int(row["contempt"]) < max(counts.values())
            ):
                votes[row["file"]] = {
                    name: count / sum(counts.values()) for name, count in counts.items()
                }
    return votes


def public_test(material):
    votes, faces, training_digests = votes_of(material), [], set()
    with tarfile.open(
        os.path.join(material, "faces/fer2013_training_publictest.tar.xz")
    ) as archive:
        for member in archive:
            if not member.name.endswith(".jpg"):
                continue
            _, split, label, name = member.name.split("/")
            picture = np.asarray(
                Image.open(io.BytesIO(archive.extractfile(member).read())).convert("L")
            )
            if split == "PublicTest":
                faces.append(Face(picture, NAMES[label], votes.get(name), False))
            else:
                training_digests.add(hashlib.sha256(picture.tobytes()).digest())
    for face in faces:
        face.is_copy = hashlib.sha256(face.picture.tobytes()).digest() in training_digests
    return faces


class BundleEncoder:
    def __init__(self, bundle):
        with open(os.path.join(bundle, "manifest.toml"), "rb") as file:
            manifest = tomllib.load(file)
        entry = next(encoder for encoder in manifest["encoder"] if encoder["modality"] == "face")
        self.floor, self.classes = manifest["face"]["normalise"]["floor"], entry["classes"]
        # The daemon's choice on the CPU.
        self.file = entry.get("int8", entry)["file"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.path.join(bundle, self.file), options, providers=["CPUExecutionProvider"]
        )
        self.input = self.session.get_inputs()[0].name

    def __call__(self, picture):
        values = picture.astype(np.float32) / 255
        values = (values - values.mean()) / max(values.std(), self.floor)
        _, logits = self.session.run(None, {self.input: values[None, None]})
        odds = np.exp(logits[0].astype(np.float64) - logits.max())
        return dict(zip(self.classes, odds / odds.sum()))


class FerPackage:
    def __init__(self, quantised):
        # No margin: these pictures are face crops already.
        self.fer = FER(offsets=(0, 0), use_tflite=quantised)

    def __call__(self, picture):
        # The grey crop as RGB; the box covers all of it.
        height, width = picture.shape
        scores = self.fer.detect_emotions(
            np.repeat(picture[:, :, None], 3, axis=2), face_rectangles=[(0, 0, width, height)]
        )[0]["emotions"]
        # Scores are rounded to two digits.
        sum_of_all = sum(scores.values()) or 1.0
        return {NAMES[name]: score / sum_of_all for name, score in scores.items()}


def wilson(share, n, z=1.959964):
    middle, half = share + z * z / (2 * n), z * math.sqrt(
        share * (1 - share) / n + z * z / (4 * n * n)
    )
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def accuracy(right):
    share = sum(right) / len(right)
    low, high = wilson(share, len(right))
    return f"{share:.3f} ({low:.3f} to {high:.3f}, n {len(right)})"


def figures(faces, scores):
    """A line for each measure of `scores` (a dictionary a face) on `faces`."""
    answers = [max(of, key=of.get) for of in scores]
    voted = [(face, of, answer) for face, of, answer in zip(faces, scores, answers) if face.shares]
    clear = [(face.first, answer) for face, _, answer in voted if face.first]
    # Rounding to 0 would make the loss infinite, so scores are at least the rounding error.
    loss = [
        -sum(share * math.log(max(of[name], 0.005)) for name, share in face.shares.items())
        for face, of, _ in voted
    ]
    recalls = []
    for label in NAMES.values():
        of_label = [answer == label for first, answer in clear if first == label]
        recalls.append(f"{label} {sum(of_label) / len(of_label):.2f}")
    agreement = statistics.mean(face.shares[answer] for face, _, answer in voted)
    return [
        f"own labels {accuracy([answer == face.label for face, answer in zip(faces, answers)])}",
        f"annotators' first choice {accuracy([first == answer for first, answer in clear])}",
        f"annotators who agree {agreement:.3f}, "
        f"cross-entropy {statistics.mean(loss):.3f} (scores from 0.005)",
        f"recall {', '.join(recalls)}",
    ]


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument(
        "--material", default=os.environ.get("EXPRESSD_MATERIAL", "../shared/material")
    )
    arguments.add_argument("--bundle", default="models/default")
    arguments = arguments.parse_args()
    faces = public_test(arguments.material)
    both = {
        "expressd": BundleEncoder(arguments.bundle),
        "fer, as it comes (8 bits)": FerPackage(True),
        "fer, use_tflite=False": FerPackage(False),
    }
    scores = {name: [net(face.picture) for face in faces] for name, net in both.items()}
    times = {name: [] for name in both}
    for _ in range(7):
        for name, net in both.items():
            begun = time.perf_counter()
            for face in faces[:25]:
                net(face.picture)
            times[name].append((time.perf_counter() - begun) / 25 * 1e3)
    for name in both:
        print(f"{name}: {statistics.median(times[name]):.2f} ms a face")
        for what, wanted in (
            ("all", lambda face: True),
            ("new to both", lambda face: not face.is_copy),
        ):
            picked = [(face, of) for face, of in zip(faces, scores[name]) if wanted(face)]
            for line in figures(*zip(*picked)):
                print(f"    {what}: {line}")


if __name__ == "__main__":
    main()
