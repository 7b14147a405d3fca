"""Computes the measures of each compared network, and their table."""
import math
import os
import statistics

from .pictures import LABELS

# Lower limit of scores in the cross-entropy: `fer` rounds scores to two digits, and its zeros would
# make the cross-entropy infinite.
LEAST_SCORE = 0.005


def wilson(share, n, z=1.959964):
    """Wilson's 95 % confidence interval of a share of `n` trials: (low, high)."""
    middle = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)


def accuracy(right):
    """Share of true values in `right` with its 95 % confidence interval."""
    share = sum(right) / len(right)
    low, high = wilson(share, len(right))
    return {"share": share, "low": low, "high": high, "n": len(right)}


def top(scores):
    """The label with the highest score."""
    return max(scores, key=scores.get)


def on_pictures(faces, scores):
    """Measures on single pictures; `scores` are a dictionary from label to score for each face."""
    answers = [top(of) for of in scores]
    voted = [(f, of, answer) for f, of, answer in zip(faces, scores, answers) if f.shares]
    clear = [(f.majority, answer) for f, _, answer in voted if f.majority]
    loss = [
        -sum(share * math.log(max(of[label], LEAST_SCORE)) for label, share in f.shares.items())
        for f, of, _ in voted
    ]
    recalls = {
        label: accuracy([answer == label for majority, answer in clear if majority == label])
        for label in LABELS
    }
    return {
        "own_labels": accuracy([answer == f.label for f, answer in zip(faces, answers)]),
        "majority_label": accuracy([majority == answer for majority, answer in clear]),
        "agreement": statistics.mean(f.shares[answer] for f, _, answer in voted),
        "voted": len(voted),
        "cross_entropy": statistics.mean(loss),
        "recalls": recalls,
        "mean_recall": statistics.mean(recall["share"] for recall in recalls.values()),
    }


def on_clips(clips, scores):
    """Measures on clips; `scores` are a list for each clip: scores at each time, None: no face."""
    moments, whole = [], []
    for clip, of_clip in zip(clips, scores):
        seen = [of for of in of_clip if of]
        moments += [of is not None and top(of) == clip.label for of in of_clip]
        sums = {label: sum(of[label] for of in seen) for label in LABELS}
        whole.append(bool(seen) and top(sums) == clip.label)
    return {
        "moments": accuracy(moments),
        "without_face": sum(of is None for of_clip in scores for of in of_clip),
        "clips": sum(whole),
        "n": len(whole),
        "right": [clip.label for clip, is_right in zip(clips, whole) if is_right],
    }


def _shown(figure):
    return f"{figure['share']:.3f} ({figure['low']:.3f}–{figure['high']:.3f})"


def _of_weights(network):
    return f"{sum(network['weights'].values()) / 1000:,.0f} kB"


def table(report):
    """Markdown table with a column for each network."""
    networks = report["networks"]
    first = networks[0]["pictures"]
    own, majority = first["own_labels"]["n"], first["majority_label"]["n"]
    recalls = first["recalls"]

    def recall(label):
        return f"recall of {label} (n {recalls[label]['n']:,})", lambda network: (
            f"{network['pictures']['recalls'][label]['share']:.2f}"
        )

    rows = [
        ("trained on", lambda network: network["training"]),
        (
            f"accuracy on FER2013's own labels (n {own:,})",
            lambda network: _shown(network["pictures"]["own_labels"]),
        ),
        (
            f"accuracy on the majority label of the votes (n {majority:,})",
            lambda network: _shown(network["pictures"]["majority_label"]),
        ),
        (
            f"mean agreement with the annotators (n {first['voted']:,})",
            lambda network: f"{network['pictures']['agreement']:.3f}",
        ),
        (
            "cross-entropy to the votes, in nats",
            lambda network: f"{network['pictures']['cross_entropy']:.2f}",
        ),
        recall("neutral"),
        recall("fearful"),
        recall("disgusted"),
        ("mean recall", lambda network: f"{network['pictures']['mean_recall']:.2f}"),
    ]
    clips = networks[0]["clips"]
    rows += [
        (
            f"acted clips, accuracy at 5 Hz (n {clips['moments']['n']})",
            lambda network: f"{network['clips']['moments']['share']:.2f}",
        ),
        (
            f"acted clips, mean scores (n {clips['n']})",
            lambda network: f"{network['clips']['clips']} right",
        ),
        ("time a face, relative to this bundle", lambda network: f"{network['time_ratio']:.1f}"),
        ("run by", lambda network: network["runtime"]),
        ("size of the weights", _of_weights),
        ("licence of the code", lambda network: network["code_licence"]),
        ("licence of the weights", lambda network: network["weights_licence"]),
    ]
    lines = [
        "| | " + " | ".join(network["name"] for network in networks) + " |",
        "|---|" + "---|" * len(networks),
    ]
    for name, value in rows:
        lines.append(f"| {name} | " + " | ".join(value(network) for network in networks) + " |")
    return "\n".join(lines) + "\n"


def weights_of(network):
    """Size in bytes of each file of the network's weights, by name."""
    return {os.path.basename(path): os.path.getsize(path) for path in network.weights}
