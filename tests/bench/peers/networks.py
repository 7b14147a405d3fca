"""The networks of the comparison. Each scores pictures of faces as its own project does.

Scores are dictionaries from LABELS to numbers in 0..1.
"""
import json
import os
import subprocess
import tempfile
import time
import tomllib

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import onnxruntime

from .environment import HERE, node_folder_of
from .pictures import FER2013_CLASSES, LABELS


def _timed(score, pictures):
    """Milliseconds of `score` for each picture."""
    times = []
    for picture in pictures:
        begun = time.perf_counter()
        score(picture)
        times.append((time.perf_counter() - begun) * 1e3)
    return times


class Bundle:
    """A bundle's face encoder and head, from the files that the daemon uses on a CPU.

    A picture gets the scores of an event with one face in one frame, without voice and text.
    """

    def __init__(self, bundle, expressd):
        self.bundle, self.expressd = bundle, expressd
        with open(os.path.join(bundle, "manifest.toml"), "rb") as file:
            self.manifest = manifest = tomllib.load(file)
        entry = next(e for e in manifest["encoder"] if e["modality"] == "face")
        self.floor = manifest["face"]["normalise"]["floor"]
        self.labels = manifest["labels"]
        self.temperature = manifest["head"]["temperature"]["face"]
        self.files = [entry.get("int8", entry)["file"], manifest["head"]["file"]]
        self.encoder, self.head = (self._session(file) for file in self.files)
        self.input = self.encoder.get_inputs()[0].name
        # The head's inputs are bound by position: the embeddings, then their presence.
        dims = {encoder["name"]: encoder["dim"] for encoder in manifest["encoder"]}
        names = manifest["head"]["inputs"]
        self.embeddings = [np.zeros((1, dims[name]), np.float32) for name in names]
        self.place = names.index(entry["name"])
        self.presence = np.array([[float(name == entry["name"]) for name in names]], np.float32)
        self.head_inputs = [given.name for given in self.head.get_inputs()]

    def _session(self, file):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = os.path.join(self.bundle, file)
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    @property
    def weights(self):
        return [os.path.join(self.bundle, file) for file in self.files]

    def _score(self, picture):
        values = picture.astype(np.float32) / 255
        values = (values - values.mean()) / max(values.std(), self.floor)
        embedding, _ = self.encoder.run(None, {self.input: values[None, None]})
        self.embeddings[self.place] = embedding
        given = dict(zip(self.head_inputs, [*self.embeddings, self.presence], strict=True))
        (logits,) = self.head.run(None, given)
        logits = logits[0].astype(np.float64) / self.temperature
        powers = np.exp(logits - logits.max())
        return dict(zip(self.labels, powers / powers.sum()))

    def score(self, pictures):
        return [self._score(picture) for picture in pictures]

    def times(self, pictures):
        return _timed(self._score, pictures)

    def follow(self, clip):
        """Replays the clip without its sound in the daemon.

        Returns (end in seconds, scores by label) of each event that used the face.
        """
        with tempfile.TemporaryDirectory() as folder:
            silent = os.path.join(folder, "silent.mp4")
            ffmpeg = ["ffmpeg", "-v", "error", "-i", clip.path, "-an", "-c", "copy", silent]
            subprocess.run(ffmpeg, check=True)
            replay = [self.expressd, "replay", silent, "--jsonl", "-", "--bundle", self.bundle]
            lines = subprocess.run(replay, check=True, capture_output=True, text=True).stdout
        events = [json.loads(line) for line in lines.splitlines()]
        seen = [e for e in events if e["type"] == "expression" and e["modalities"]["face"]["used"]]
        return [(event["end_ns"] / 1e9, event["scores"]) for event in seen]


class Fer:
    """`fer`, called through its own class with its own preprocessing."""

    def __init__(self, quantised):
        import tensorflow

        tensorflow.config.threading.set_intra_op_parallelism_threads(1)
        tensorflow.config.threading.set_inter_op_parallelism_threads(1)
        import fer.fer

        # No margin, because these pictures are crops of faces already.
        self.on_crops = fer.fer.FER(offsets=(0, 0), use_tflite=quantised)
        self.on_frames = fer.fer.FER(use_tflite=quantised)
        name = "emotion_model_quantized.tflite" if quantised else "emotion_model.hdf5"
        self.weights = [os.path.join(os.path.dirname(fer.fer.__file__), "data", name)]

    @staticmethod
    def _shares(emotions):
        # `fer` rounds scores to two digits, so they are normalised again.
        total = sum(emotions.values()) or 1.0
        return {FER2013_CLASSES[name]: score / total for name, score in emotions.items()}

    def _score(self, picture):
        # The box covers the whole picture.
        height, width = picture.shape
        grey = np.repeat(picture[:, :, None], 3, axis=2)
        (face,) = self.on_crops.detect_emotions(grey, face_rectangles=[(0, 0, width, height)])
        return self._shares(face["emotions"])

    def score(self, pictures):
        return [self._score(picture) for picture in pictures]

    def times(self, pictures):
        return _timed(self._score, pictures)

    def find(self, frames):
        """Scores of the largest face that `fer` detects in each RGB frame; None without a face."""
        found = []
        for frame in frames:
            faces = self.on_frames.detect_emotions(np.ascontiguousarray(frame[:, :, ::-1]))
            largest = max(faces, key=lambda face: face["box"][2] * face["box"][3], default=None)
            found.append(self._shares(largest["emotions"]) if largest else None)
        return found


class FaceApi:
    """`@vladmandic/face-api`, which runs in another process (`face_api.js`)."""

    def __init__(self, environments, whole):
        """If `whole`, scores whole pictures, else the part that face-api's landmarks select."""
        self.step = "score" if whole else "aligned"
        folder = node_folder_of(environments)
        model = os.path.join(folder, "node_modules/@vladmandic/face-api/model")
        files = ["face_expression_model.bin"] + ["face_landmark_68_model.bin"] * (not whole)
        self.weights = [os.path.join(model, file) for file in files]
        self.process = subprocess.Popen(
            ["node", os.path.join(HERE, "face_api.js")],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def _ask(self, what, pictures):
        with tempfile.NamedTemporaryFile() as file:
            stacked = np.stack(pictures)
            file.write(stacked.tobytes())
            file.flush()
            request = {"do": what, "file": file.name, "shape": stacked.shape}
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        assert answer, "face_api.js has ended"
        return json.loads(answer)

    def score(self, pictures):
        of_all = self._ask(self.step, pictures)
        return [dict(zip(LABELS, scores)) for scores in of_all]

    def times(self, pictures):
        return self._ask(f"time {self.step}", pictures)

    def find(self, frames):
        """Scores of the most certain face that face-api detects in each frame, or None."""
        found = self._ask("find", frames)
        return [scores and dict(zip(LABELS, scores)) for scores in found]

    def close(self):
        self.process.stdin.close()
        self.process.wait()
