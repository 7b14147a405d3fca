"""Writes silero_vad.s16le (speech by espeak-ng, 16 kHz mono) and silero_vad.json (its voice
activity).

onnxruntime for Python runs it window by window, like the wheel's sequence_vad.py and utils_vad.py:
context of 64 samples, windows of 512, the last padded with zeros.

    espeak-ng -v en -s 160 -w a.wav "The quick brown fox jumps."
    espeak-ng -v en -s 160 -w b.wav "Hello there, my friend."
    python3 make_silero_golden.py silero_vad.onnx       (needs numpy, onnxruntime)
"""

import json, os, sys, wave

# Before the import: ONNX Runtime would send telemetry.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np, onnxruntime


def speech(path):
    w = wave.open(path)
    x = np.frombuffer(w.readframes(w.getnframes()), np.int16).astype(np.float64)
    n = len(x) * 16000 // w.getframerate()
    return np.interp(np.arange(n) * w.getframerate() / 16000, np.arange(len(x)), x)


signal = np.concatenate(
    [np.zeros(4000), speech("a.wav"), np.zeros(8000), speech("b.wav"), np.zeros(6100)]
)
signal = np.round(signal).astype("<i2")
signal.tofile("silero_vad.s16le")
audio = signal.astype(np.float32) / np.float32(32768)

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
state, context, probabilities = np.zeros((2, 1, 128), np.float32), np.zeros((1, 64), np.float32), []
for i in range(0, len(audio), 512):
    window = np.zeros((1, 512), np.float32)
    window[0, : len(audio[i : i + 512])] = audio[i : i + 512]
    window = np.concatenate([context, window], axis=1)
    context = window[:, -64:]
    out, state = session.run(
        None, {"input": window, "state": state, "sr": np.array(16000, np.int64)}
    )
    probabilities.append(round(float(out[0, 0]), 6))
json.dump(
    {
        "samples": len(audio),
        "graph": "silero_vad.onnx of silero-vad 6.2.3",
        "onnxruntime": onnxruntime.__version__,
        "probabilities": probabilities,
    },
    open("silero_vad.json", "w"),
    indent=None,
)
print(len(audio), len(probabilities))
print(np.round(probabilities, 2))
