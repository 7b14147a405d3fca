#!/usr/bin/env python3
"""Compares the default bundle's faces with `fer` (PyPI) and `@vladmandic/face-api` (npm).

Both packages bring their weights. Every network gets the same pictures, in turns, on one thread
and one core of one machine. It makes its own environments (pinned versions and hashes) in the
folder ENVIRONMENTS, which lies outside the project; it is not part of `make test`:

    python3.11 tests/bench/beside_peers.py ENVIRONMENTS [--material DIR] [--bundle DIR]
        [--expressd target/release/expressd] [--json FILE] [--table FILE]

* Pictures: FER2013's PublicTest without the pictures that have a pixel-identical copy in Training,
  48x48, grey, no detector. Measures: accuracy on FER2013's own labels and on the majority label of
  FER+'s votes, agreement with the annotators, cross-entropy to the votes, recall.
* Transfer: MEAD's acted clips, sound removed. Each project finds and crops the face itself. The
  daemon's answers are the events of a replay; the other networks get the frames at their times.
* Time: median of calls from the picture to the scores, of rounds in turns, as a ratio.
"""
import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys

from peers import environment

ROUNDS, CALLS = 15, 20


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("environments", metavar="ENVIRONMENTS")
    material = os.environ.get("EXPRESSD_MATERIAL", "../shared/material")
    parser.add_argument("--material", default=material)
    parser.add_argument("--bundle", default="models/default")
    parser.add_argument("--expressd", default="target/release/expressd")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--table", metavar="FILE", help="Markdown")
    return parser.parse_args()


def date_of(bundle):
    """Date of the bundle's last commit, or of its manifest file: YYYY-MM-DD."""
    log = ["git", "-C", bundle, "log", "-1", "--format=%cs", "--", "manifest.toml"]
    date = subprocess.run(log, capture_output=True, text=True).stdout.strip()
    changed = os.path.getmtime(os.path.join(bundle, "manifest.toml"))
    return date or datetime.date.fromtimestamp(changed).isoformat()


def described(bundle, fer, fer_float, face_api, face_api_aligned):
    """(network, facts for the table) for each compared network."""
    fer_facts = {
        # Stated by the training script of `face_classification`, the project that the network comes
        # from.
        "training": "FER2013's Training, its own labels; epoch selected on the rest, PublicTest "
        "included",
        "code_licence": "MIT",
        "weights_licence": "MIT; FER2013: research only",
    }
    face_api_facts = {
        "training": "public data sets and pictures of the web, not named",
        "runtime": "TensorFlow.js, WASM",
        "code_licence": "MIT",
        "weights_licence": "MIT; data not named",
    }
    return [
        (
            bundle,
            {
                "name": "this bundle, face alone (8 bits)",
                "training": "nine tenths of FER2013's Training, FER+'s votes",
                "runtime": "ONNX Runtime",
                "code_licence": "MIT or Apache-2.0",
                "weights_licence": "research only",
            },
        ),
        (fer, {"name": "`fer` 25.10.3 (8 bits)", "runtime": "TensorFlow Lite", **fer_facts}),
        (
            fer_float,
            {"name": "`fer` 25.10.3, `use_tflite=False`", "runtime": "TensorFlow", **fer_facts},
        ),
        (face_api, {"name": "`@vladmandic/face-api` 1.7.15", **face_api_facts}),
        (
            face_api_aligned,
            {"name": "the same, cropped by its landmarks", **face_api_facts},
        ),
    ]


def time_in_turns(networks, pictures):
    """For each network: median milliseconds of a call, and the ratio to the first network's time
    (median, least and greatest over the rounds). The networks take turns."""
    rounds = [[] for _ in networks]
    for number in range(ROUNDS + 1):
        begin = number * CALLS % len(pictures)
        for network, of_network in zip(networks, rounds):
            of_network.append(statistics.median(network.times(pictures[begin : begin + CALLS])))
    # The first round is a warm-up.
    rounds = [of_network[1:] for of_network in rounds]
    return [
        {
            "ms": statistics.median(of_network),
            "time_ratio": statistics.median(a / b for a, b in zip(of_network, rounds[0])),
            "time_ratio_range": [
                min(a / b for a, b in zip(of_network, rounds[0])),
                max(a / b for a, b in zip(of_network, rounds[0])),
            ],
        }
        for of_network in rounds
    ]


def measure(given):
    from peers import figures, networks, pictures

    faces = pictures.public_test(given.material)
    crops = [face.picture for face in faces]
    face_api = networks.FaceApi(given.environments, whole=True)
    face_api_aligned = networks.FaceApi(given.environments, whole=False)
    bundle = networks.Bundle(given.bundle, given.expressd)
    compared = described(
        bundle, networks.Fer(True), networks.Fer(False), face_api, face_api_aligned
    )
    clips = pictures.acted_clips(given.material)
    followed = [bundle.follow(clip) for clip in clips]
    frames = [clip.frames([end for end, _ in of]) for clip, of in zip(clips, followed)]
    report = {
        "bundle": {
            "name": bundle.manifest["name"],
            "date": date_of(given.bundle),
            "fingerprint": bundle.manifest["fingerprint"],
        },
        "clips": {"n": len(clips), "actors": len({clip.actor for clip in clips})},
        "networks": [],
    }
    for network, facts in compared:
        figures_of = {"pictures": figures.on_pictures(faces, network.score(crops))}
        if network is bundle:
            of_clips = [[scores for _, scores in of] for of in followed]
        else:
            of_clips = [network.find(of_clip) for of_clip in frames]
        figures_of["clips"] = figures.on_clips(clips, of_clips)
        figures_of["weights"] = figures.weights_of(network)
        report["networks"].append(facts | figures_of)
        print(json.dumps(report["networks"][-1], indent=1), flush=True)
    times = time_in_turns([network for network, _ in compared], crops)
    for of_network, time in zip(report["networks"], times):
        of_network.update(time)
    face_api.close()
    face_api_aligned.close()
    return report, figures.table(report)


def main():
    given = arguments()
    given.environments = os.path.abspath(given.environments)
    python = environment.python_of(given.environments)
    if os.path.abspath(sys.executable) != python:
        environment.make(given.environments)
        os.execv(python, [python, *sys.argv])
    # This process and node run on one core.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    report, table = measure(given)
    print(table)
    for file, text in ((given.json, json.dumps(report, indent=1) + "\n"), (given.table, table)):
        if file:
            with open(file, "w") as written:
                written.write(text)


if __name__ == "__main__":
    # The variable is set before the imports, because ONNX Runtime would send telemetry.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    main()
