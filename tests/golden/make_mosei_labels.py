"""Writes mosei_labels.csd, a computational sequence in the format of CMU-MOSEI's SDK.

The values are random.

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install numpy h5py
    /tmp/venv/bin/python make_mosei_labels.py mosei_labels.csd
"""

import json
import sys

import h5py
import numpy as np

rng = np.random.RandomState(3)
with h5py.File(sys.argv[1], "w") as file:
    root = file.create_group("All Labels")
    data, metadata = root.create_group("data"), root.create_group("metadata")
    for video in ["-3g5yACwYnA", "100178", "_q7DM8WkzAQ"]:
        rows = 1 + rng.randint(4)
        features = np.zeros((rows, 7), np.float32)
        features[:, 0] = rng.randint(-3, 4, rows)
        features[:, 1:] = rng.randint(0, 10, (rows, 6)) / 3.0
        start = np.cumsum(rng.uniform(3, 9, rows))
        group = data.create_group(video)
        packed = dict(compression="gzip", compression_opts=9, chunks=True)
        group.create_dataset("features", data=features, **packed)
        group.create_dataset("intervals", data=np.stack([start, start + 2.5], 1), **packed)
    text = h5py.special_dtype(vlen=str)
    columns = ["sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear"]
    for name, value in {"root name": "All Labels", "dimension names": columns}.items():
        metadata.create_dataset(name, data=json.dumps(value), dtype=text)
