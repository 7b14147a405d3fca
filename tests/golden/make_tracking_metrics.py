"""Writes tests/golden/tracking_metrics.json: figures of a random sequence by the reference code.

    make_tracking_metrics.py

Needs trackeval 1.3.0 (TrackEval, by the authors of HOTA) and motmetrics 1.4.0 (py-motmetrics). The
fragmentations are py-motmetrics': TrackEval also counts a truth that was absent, and skips frames
without any track. MOTP is TrackEval's, the mean overlap of the matches. Both give the other
figures of CLEAR MOT and the identity metrics, and this script fails if they differ.
"""

import json
import pathlib
import random

import motmetrics
import numpy
from trackeval import metrics

FRAMES = 60
SIDE = 40


def sequence(rng):
    """Truth and tracks of each frame: five walkers that meet, tracks with all kinds of errors."""
    places = [[rng.randrange(60, 200), rng.randrange(60, 200)] for _ in range(5)]
    speeds = [[rng.randint(-4, 4), rng.randint(-4, 4)] for _ in range(5)]
    absent = {1: range(20, 30), 3: range(0, 12), 4: range(45, FRAMES)}
    ids = [1, 2, 3, 4, 5]
    new_id = 6
    frames = []
    for frame in range(FRAMES):
        truth, tracked = [], []
        for person, (place, speed) in enumerate(zip(places, speeds)):
            for axis in range(2):
                if not 30 < place[axis] + speed[axis] < 240:
                    speed[axis] = -speed[axis]
                place[axis] += speed[axis]
            if frame in absent.get(person, []):
                continue
            truth.append([person + 1, *place, SIDE, SIDE + 8])
            if rng.random() < 0.04:
                ids[person], new_id = new_id, new_id + 1
            if rng.random() < 0.1 and frame % 7:
                continue
            noise = [rng.randint(-5, 5) for _ in range(4)]
            box = [v + n for v, n in zip([*place, SIDE, SIDE + 8], noise)]
            tracked.append([ids[person], *box])
        if rng.random() < 0.04:
            a, b = rng.sample(range(5), 2)
            ids[a], ids[b] = ids[b], ids[a]
        if rng.random() < 0.2:
            tracked.append([90 + frame // 10, rng.randrange(300), rng.randrange(300), SIDE, SIDE])
        rng.shuffle(tracked)
        assert truth and tracked
        frames.append([truth, tracked])
    return frames


def overlap(a, b):
    w = max(0, min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0]))
    h = max(0, min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1]))
    return w * h / (a[2] * a[3] + b[2] * b[3] - w * h)


def trackeval_figures(frames):
    def indexed(part):
        ids = sorted({box[0] for frame in frames for box in frame[part]})
        each = [numpy.array([ids.index(box[0]) for box in frame[part]]) for frame in frames]
        return len(ids), each

    truths, gt_ids = indexed(0)
    tracks, tracker_ids = indexed(1)
    data = {
        "num_gt_ids": truths,
        "num_tracker_ids": tracks,
        "num_gt_dets": sum(len(ids) for ids in gt_ids),
        "num_tracker_dets": sum(len(ids) for ids in tracker_ids),
        "num_timesteps": len(frames),
        "gt_ids": gt_ids,
        "tracker_ids": tracker_ids,
        "similarity_scores": [
            numpy.array([[overlap(a[1:], b[1:]) for b in tracked] for a in truth])
            for truth, tracked in frames
        ],
    }
    quiet = {"PRINT_CONFIG": False}
    clear = metrics.CLEAR(quiet).eval_sequence(data)
    identity = metrics.Identity(quiet).eval_sequence(data)
    hota = metrics.HOTA().eval_sequence(data)
    return data["num_gt_dets"], clear, identity, hota


def motmetrics_figures(frames):
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for truth, tracked in frames:
        # Above a distance of 0.5 there is no match.
        distances = [[1 - overlap(a[1:], b[1:]) for b in tracked] for a in truth]
        far = [[d if d <= 0.5 else numpy.nan for d in row] for row in distances]
        accumulator.update([a[0] for a in truth], [b[0] for b in tracked], far)
    counts = ["num_switches", "num_misses", "num_false_positives", "num_fragmentations"]
    names = [*counts, "mota", "idf1", "idp", "idr"]
    summary = motmetrics.metrics.create().compute(accumulator, metrics=names, name="all")
    return summary.loc["all"].to_dict()


def main():
    frames = sequence(random.Random(18))
    boxes, clear, identity, hota = trackeval_figures(frames)
    other = motmetrics_figures(frames)
    both = [
        ("mota", clear["MOTA"]),
        ("num_switches", clear["IDSW"]),
        ("num_misses", clear["CLR_FN"]),
        ("num_false_positives", clear["CLR_FP"]),
        ("idf1", identity["IDF1"]),
        ("idp", identity["IDP"]),
        ("idr", identity["IDR"]),
    ]
    for name, value in both:
        assert abs(other[name] - value) < 1e-12, (name, other[name], value)
    figures = {
        "boxes": boxes,
        "misses": int(clear["CLR_FN"]),
        "false_positives": int(clear["CLR_FP"]),
        "switches": int(clear["IDSW"]),
        "fragmentations": int(other["num_fragmentations"]),
        "mota": float(clear["MOTA"]),
        "motp": float(clear["MOTP"]),
        "idf1": float(identity["IDF1"]),
        "idp": float(identity["IDP"]),
        "idr": float(identity["IDR"]),
        "hota": float(hota["HOTA"].mean()),
        "det_a": float(hota["DetA"].mean()),
        "ass_a": float(hota["AssA"].mean()),
        "loc_a": float(hota["LocA"].mean()),
    }
    text = json.dumps(figures, indent=1)
    lines = ",\n".join(json.dumps(frame, separators=(",", ":")) for frame in frames)
    out = pathlib.Path(__file__).with_name("tracking_metrics.json")
    out.write_text(f'{{"figures": {text},\n"frames": [\n{lines}\n]}}\n')
    print(text)


if __name__ == "__main__":
    main()
