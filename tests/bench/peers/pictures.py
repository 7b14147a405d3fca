"""Test data of the comparison: FER2013's PublicTest with FER+'s votes, and MEAD's acted clips."""
import csv
import hashlib
import io
import os
import tarfile
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
FER2013_CLASSES = {
    "neutral": "neutral",
    "happy": "happy",
    "sad": "sad",
    "angry": "angry",
    "fear": "fearful",
    "disgust": "disgusted",
    "surprise": "surprised",
}
VOTE_COLUMNS = {
    "neutral": "neutral",
    "happiness": "happy",
    "sadness": "sad",
    "anger": "angry",
    "fear": "fearful",
    "disgust": "disgusted",
    "surprise": "surprised",
}
# Fewest votes for the seven labels with which a picture is used; the trainer has the same limit.
LEAST_VOTES = 5


@dataclass
class Face:
    # 48x48 pixels, grey, 8 bits.
    picture: np.ndarray
    # FER2013's own label, one of LABELS.
    label: str
    # Share of the votes of each label, 0..1. None if there are too few votes, or most are for
    # contempt.
    shares: dict | None

    @property
    def majority(self):
        """The label with the most votes; None if it is not unique."""
        most = max(self.shares.values()) if self.shares else None
        firsts = [name for name, share in (self.shares or {}).items() if share == most]
        return firsts[0] if len(firsts) == 1 else None


def _votes(material):
    votes = {}
    with open(os.path.join(material, "faces/ferplus_votes.csv"), newline="") as file:
        for row in csv.DictReader(file):
            counts = {name: int(row[column]) for column, name in VOTE_COLUMNS.items()}
            n = sum(counts.values())
            is_kept = n >= LEAST_VOTES and int(row["contempt"]) < max(counts.values())
            if row["split"] == "PublicTest" and is_kept:
                votes[row["file"]] = {name: count / n for name, count in counts.items()}
    return votes


def public_test(material):
    """PublicTest's faces without those that have a pixel-identical copy in Training."""
    votes, faces, in_training = _votes(material), [], set()
    archive = os.path.join(material, "faces/fer2013_training_publictest.tar.xz")
    with tarfile.open(archive) as archive:
        for member in archive:
            if not member.name.endswith(".jpg"):
                continue
            _, split, label, name = member.name.split("/")
            jpeg = io.BytesIO(archive.extractfile(member).read())
            picture = np.asarray(Image.open(jpeg).convert("L"))
            if split == "PublicTest":
                faces.append(Face(picture, FER2013_CLASSES[label], votes.get(name)))
            else:
                in_training.add(hashlib.sha256(picture.tobytes()).digest())
    is_copy = lambda face: hashlib.sha256(face.picture.tobytes()).digest() in in_training
    return [face for face in faces if not is_copy(face)]


@dataclass
class Clip:
    path: str
    label: str
    actor: str

    def frames(self, times):
        """The latest frame (RGB) at each of these ascending times, in seconds."""
        video, frames = cv2.VideoCapture(self.path), []
        rate = video.get(cv2.CAP_PROP_FPS)
        is_read, frame = video.read()
        assert is_read, f"{self.path} cannot be decoded"
        index = 0
        for time in times:
            while (index + 1) / rate <= time:
                is_read, following = video.read()
                if not is_read:
                    break
                index, frame = index + 1, following
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
        return frames


def acted_clips(material):
    """MEAD's clips with a label of the seven (its contempt is none of them)."""
    clips = []
    for folder in ("av/mead", "av/mead_silent"):
        for name in sorted(os.listdir(os.path.join(material, folder))):
            words = name.removesuffix(".mp4").split("_")
            named = [FER2013_CLASSES.get(word, word) for word in words[1:]]
            labels = [word for word in named if word in LABELS]
            if labels:
                clips.append(Clip(os.path.join(material, folder, name), labels[0], words[0]))
    return clips
