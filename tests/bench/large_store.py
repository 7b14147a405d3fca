"""Writes a feature store of VoxCeleb2's size with the paper's embeddings.

It has 534,616 clips of 5,888 values, 12.6 GB.

    large_store.py FOLDER [CLIPS]

Then, with the address space limited to 8 GiB:

    (ulimit -v 8388608
     expressd-train pretrain --recipe config/train/reference/conclugen.toml \\
         --store FOLDER --run /tmp/run)
    grep -E 'VmPeak|VmHWM' /proc/$(pgrep expressd-train)/status

A few hundred rows of noise are repeated: the measurement is of reading the store, not of learning.
"""

import array
import json
import os
import sys
import zlib

ENCODERS = [
    ("video_2d", "face", 2048),
    ("video_3d", "face", 2048),
    ("audio", "voice", 1024),
    ("words", "text", 768),
]
DIM = sum(dim for _, _, dim in ENCODERS)
DIFFERENT = 499


def main(folder, clips):
    os.makedirs(folder, exist_ok=True)
    halves = memoryview(os.urandom(DIFFERENT * DIM * 2)).cast("H")
    values = array.array("f", (half / 65536.0 for half in halves))
    rows = [values[i * DIM : (i + 1) * DIM].tobytes() for i in range(DIFFERENT)]
    sums, block = [zlib.crc32(row) for row in rows], b"".join(rows)
    encoders = [
        {"name": name, "modality": modality, "dim": dim} for name, modality, dim in ENCODERS
    ]
    spec = {
        "schema": 1,
        "fingerprint": "ab" * 32,
        "dataset": "voxceleb2",
        "labels": [],
        "clips": "recording",
        "encoders": encoders,
    }
    with open(os.path.join(folder, "store.json"), "w") as file:
        json.dump(spec, file)
    with open(os.path.join(folder, "shard-0000-of-0001.rows"), "wb") as file:
        for first in range(0, clips, DIFFERENT):
            file.write(block[: min(DIFFERENT, clips - first) * DIM * 4])
            print(f"\r{first / clips:4.0%}", end="", flush=True)
    with open(os.path.join(folder, "shard-0000-of-0001.jsonl"), "w") as file:
        for i in range(clips):
            name = f"dev/id{i % 6112:05d}/{i:011x}/{i % 200:05d}"
            row = {
                "id": name,
                "split": "train",
                "group": f"id{i % 6112:05d}",
                "present": [True] * 4,
                "seconds": 7.5,
                "crc32": sums[i % DIFFERENT],
            }
            file.write(json.dumps({"item": name, "rows": [row]}, separators=(",", ":")) + "\n")
    print(f"\r{folder}: {clips} clips of {DIM} values")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 534_616)
