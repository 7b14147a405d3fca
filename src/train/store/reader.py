"""Reads a feature store of `expressd-train extract`; needs Python 3.9 and its standard library.

    for row in rows("stores/sessions"):
        print(row["id"], row["split"], row["label"], row["values"])
    meta, x = arrays("stores/sessions", split="train")      # needs numpy

Each row is a dictionary: id, split, group, seconds, text, view, present (for each encoder), label,
and values, an array of 32-bit floats: the embeddings of all encoders, one after another, as
`spec(folder)["encoders"]` lists them with their `dim`; zeros for an encoder without evidence.
label: None without a label; a label's name; or in a store with several labels, a value for each
label's name. Rows come in the order of the files. The format is described in `mod.rs` beside.
"""
import array, json, pathlib, sys, zlib


def spec(folder):
    """The store's properties: the content of store.json."""
    return json.loads((pathlib.Path(folder) / "store.json").read_text())


def rows(folder, split=None):
    """Yields each row; split: train, val or test alone. Raises ValueError at a wrong checksum."""
    store = spec(folder)
    width = 4 * sum(encoder["dim"] for encoder in store["encoders"])
    for index in sorted(pathlib.Path(folder).glob("shard-*.jsonl")):
        # The labels of an index without a header are the store's first ones.
        labels = store.get("first_labels") or store["labels"]
        with open(index, "rb") as lines, open(index.with_suffix(".rows"), "rb") as data:
            for text in lines:
                if not text.endswith(b"\n"):
                    break  # The extraction is still writing this line, or was killed.
                line = json.loads(text)
                labels = line.get("labels", labels)
                for row in line.get("rows", []):
                    raw = data.read(width)
                    if line.get("stale") or split not in (None, row["split"]):
                        continue  # A stale row was made of a recording that has changed since.
                    if len(raw) < width or zlib.crc32(raw) != row.pop("crc32"):
                        raise ValueError(f"{index}: the row of {row['id']} is damaged")
                    values = array.array("f", raw)
                    if sys.byteorder == "big":
                        values.byteswap()
                    target = row.pop("target", None)
                    if isinstance(target, list):
                        label = dict(zip(labels, target))
                    else:
                        label = None if target is None else labels[target]
                    blank = {"group": "", "text": None, "view": 0}
                    yield {**blank, **row, "label": label, "values": values}


def arrays(folder, split=None):
    """The rows without values, and their values as one numpy array [rows, values] of float32."""
    import numpy
    found = list(rows(folder, split))
    values = [row.pop("values") for row in found]
    width = sum(encoder["dim"] for encoder in spec(folder)["encoders"])
    return found, numpy.array(values, numpy.float32).reshape(len(found), width)
