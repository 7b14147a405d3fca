#!/usr/bin/env python3
"""Times a pre-training step of the paper's dimensions in PyTorch and in expressd-train, in turn.

    python3 -m venv /tmp/torch && /tmp/torch/bin/pip install torch numpy
    /tmp/torch/bin/python tests/bench/pretrain_step.py target/release/expressd-train \\
        --batch 256 --rounds 3

Written from the formulas (arXiv 2404.10904). ConCluGen over embeddings of 4096, 1024 and 768
values: gated embedding units, shared projection and cluster heads, reconstruction, masked margin
softmax, online k-means with a queue of four batches, AdamW.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

DIMS = [4096, 1024, 768]


def torch_step(batch, representation, steps):
    import torch
    from torch import nn
    from torch.nn import functional as F

    torch.manual_seed(127)

    class Gated(nn.Module):
        def __init__(self, i, o):
            super().__init__()
            self.hidden, self.gate, self.output = nn.Linear(i, o), nn.Linear(o, o), nn.Linear(o, o)

        def forward(self, x):
            h = F.relu(self.hidden(x))
            return F.relu(self.output(h * torch.sigmoid(self.gate(h))))

    r, p, k, q = representation, 512, 32, 512
    heads = nn.ModuleList(
        [
            Gated(DIMS[0], r),
            nn.Sequential(Gated(DIMS[1], DIMS[1]), nn.Linear(DIMS[1], r)),
            Gated(DIMS[2], r),
        ]
    )
    project = nn.Sequential(
        nn.Linear(r, r // 8), nn.BatchNorm1d(r // 8), nn.ReLU(), nn.Linear(r // 8, p), nn.ReLU()
    )
    cluster = nn.Linear(p, k, bias=False)
    reconstruct = nn.ModuleList(
        [nn.Sequential(nn.Linear(r, q), nn.ReLU(), nn.Linear(q, d), nn.ReLU()) for d in DIMS]
    )
    modules = nn.ModuleList([heads, project, cluster, reconstruct])
    optimizer = torch.optim.AdamW(modules.parameters(), lr=1e-4, weight_decay=1e-3)
    inputs = [torch.relu(torch.randn(batch, d)) for d in DIMS]
    queue = []

    def kmeans(x):
        centroids = x[torch.randint(0, len(x), (k,))]
        unit = x / (x.norm(dim=1, keepdim=True) + 1e-8)
        for _ in range(100):
            labels = (unit @ (centroids / (centroids.norm(dim=1, keepdim=True) + 1e-8)).T).argmax(1)
            hot = F.one_hot(labels, k).float()
            new = (hot.T @ x) / hot.sum(0).clamp(min=1)[:, None]
            shift = ((new - centroids) ** 2).sum()
            centroids = new
            if shift <= 1e-4:
                break
        return labels, centroids

    def step():
        representations = [head(x) for head, x in zip(heads, inputs)]
        projections = [project(x) for x in representations]
        unit = [F.normalize(x, eps=1e-12) for x in projections]
        contrastive = 0.0
        for i, j in [(0, 1), (1, 2), (2, 0)]:
            s = unit[i] @ unit[j].T - 0.001 * torch.eye(batch)
            own = torch.arange(batch)
            contrastive = contrastive + F.cross_entropy(s, own) + F.cross_entropy(s.T, own)
        fused = sum(cluster(x) for x in projections) / 3
        with torch.no_grad():
            x = torch.cat(queue + [fused.detach()]) if len(queue) == 4 else fused.detach()
            labels, centroids = kmeans(x)
            queue.insert(0, fused.detach())
            del queue[4:]
        s = fused @ centroids.T - 0.001 * F.one_hot(labels[-batch:], k)
        clustering = F.cross_entropy(s, labels[-batch:])
        generative = sum(
            F.mse_loss(f(x), target) for f, x, target in zip(reconstruct, representations, inputs)
        )
        loss = (contrastive + 0.5 * clustering + 0.5 * generative) / 3
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    seconds, losses = [], []
    for i in range(steps + 1):
        started = time.perf_counter()
        losses.append(step())
        if i:
            seconds.append(time.perf_counter() - started)
    weights = sum(w.numel() for w in modules.parameters())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {
        "batch": batch,
        "representation": representation,
        "weights": weights,
        "median_s": statistics.median(seconds),
        "peak_mib": peak,
        "losses": losses,
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("trainer", nargs="?", help="the built expressd-train")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--representation", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--torch-only", action="store_true", help="this process's own step, one JSON object"
    )
    args = parser.parse_args()
    size = [
        "--batch",
        str(args.batch),
        "--representation",
        str(args.representation),
        "--steps",
        str(args.steps),
    ]
    if args.torch_only:
        print(json.dumps(torch_step(args.batch, args.representation, args.steps)))
        return
    run = lambda command: json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[
            -1
        ]
    )
    ours, theirs = [], []
    for _ in range(args.rounds):
        ours.append(run([args.trainer, "bench", "step", *size]))
        theirs.append(run([sys.executable, __file__, "--torch-only", *size]))
        print(
            f"expressd-train {ours[-1]['median_s']:.2f} s {ours[-1]['peak_mib']} MiB; "
            f"PyTorch {theirs[-1]['median_s']:.2f} s {theirs[-1]['peak_mib']} MiB",
            flush=True,
        )
    best = lambda found, key: min(f[key] for f in found)
    print(
        json.dumps(
            {
                "batch": args.batch,
                "weights": [ours[0]["weights"], theirs[0]["weights"]],
                "time_ratio": round(best(ours, "median_s") / best(theirs, "median_s"), 3),
                "memory_ratio": round(best(ours, "peak_mib") / best(theirs, "peak_mib"), 3),
            }
        )
    )


main()
