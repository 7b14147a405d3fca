"""Writes the streaming models for the tests of `[speech] transcriber = "sherpa:<dir>"`.

Each model family has a folder.

    python3 -m venv VENV && VENV/bin/pip install onnx==1.23.2
    VENV/bin/python tests/sherpa/make_models.py

The models are not trained: their tokens follow the loudness of the sound. Quiet sound is "so",
louder sound "ft", the loudest "loud". So sound that rises from quiet to louder gives the word
"soft". Inputs, states, metadata and file names are those that sherpa-onnx 2.0.1 expects of the
family's published models, so only the weights differ.
"""

import pathlib

from onnx import TensorProto, helper, numpy_helper, save
import numpy as np

HERE = pathlib.Path(__file__).parent
F, F16, I32, I64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT64

# Thresholds of a frame's mean log-mel energy for the levels quiet, louder and loudest. Features are
# kaldi's, of samples in -1..1.
LEVELS = (-10.0, -5.0, -0.5)
# The same thresholds for other features: NeMo's mel filters have equal area; Paraformer's samples
# are 16-bit numbers.
NEMO_LEVELS = tuple(level - 2.5 for level in LEVELS)
PARAFORMER_LEVELS = tuple(level + 20.8 for level in LEVELS)
# The same thresholds for the log mean square of 16-bit samples (T-one's input, 8 kHz).
SQUARE_LEVELS = (7.0, 12.0, 16.5)


class Graph:
    def __init__(self, name):
        self.name, self.nodes, self.constants, self.inputs, self.outputs = name, [], [], [], []

    def input(self, name, kind, shape):
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name, kind, shape):
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))

    def constant(self, values, dtype=np.float32):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype=dtype), name))
        return name

    def node(self, op, inputs, output=None, **attributes):
        output = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def states(self, shapes):
        """Adds states that the model returns unchanged: {name: (element type, shape)}."""
        for name, (kind, shape) in shapes.items():
            self.input(name, kind, shape)
        for name, (kind, shape) in shapes.items():
            self.node("Identity", [name], f"new_{name}")
            self.output(f"new_{name}", kind, shape)

    def scores(self, level, levels, blank, sharpness=4.0):
        """Adds scores of the four tokens, […, 1] → […, 4]. The highest score is that of blank
        below the first threshold, and that of token k from the k-th threshold on.
        """
        slopes, offsets, total = [0.0], [0.0], 0.0
        for k, edge in enumerate(levels, 1):
            # One line for each token; adjacent lines intersect at the thresholds. Their maximum is
            # convex, so each line is the highest between its two thresholds.
            total += edge
            slopes.append(float(k))
            offsets.append(-total)
        order = [1, 2, 3, 0] if blank == 3 else [0, 1, 2, 3]
        slopes = [slopes[k] * sharpness for k in order]
        offsets = [offsets[k] * sharpness for k in order]
        return self.node(
            "Add", [self.node("Mul", [level, self.constant(slopes)]), self.constant(offsets)]
        )

    def save(self, path, metadata):
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.constants)
        model = helper.make_model(
            graph,
            producer_name="expressd tests",
            opset_imports=[helper.make_opsetid("", 13)],
            ir_version=8,
        )
        helper.set_model_props(model, {key: str(value) for key, value in metadata.items()})
        path.parent.mkdir(exist_ok=True)
        save(model, path)


def tokens(folder, table):
    (HERE / folder).mkdir(exist_ok=True)
    (HERE / folder / "tokens.txt").write_text(
        "".join(f"{token} {number}\n" for number, token in enumerate(table)), encoding="utf-8"
    )


def level_of_frames(graph, x, frames, factor):
    """Adds the loudness of the loudest of each `factor` frames.

    [1, at least `frames`, 80] → [1, frames / factor, 1]; later frames are ignored.
    """
    cut = graph.node(
        "Slice",
        [
            x,
            graph.constant([0], np.int64),
            graph.constant([frames], np.int64),
            graph.constant([1], np.int64),
        ],
    )
    mean = graph.node("ReduceMean", [cut], axes=[2], keepdims=0)
    blocks = graph.node("Reshape", [mean, graph.constant([1, frames // factor, factor], np.int64)])
    return graph.node("ReduceMax", [blocks], axes=[2], keepdims=1)


ZIPFORMER2 = {
    "model_type": "zipformer2",
    "encoder_dims": 4,
    "query_head_dims": 2,
    "value_head_dims": 2,
    "num_heads": 1,
    "num_encoder_layers": 1,
    "cnn_module_kernels": 3,
    "left_context_len": 2,
    "T": 45,
    "decode_chunk_len": 32,
}
ZIPFORMER2_STATES = {
    "cached_key_0": (F, [2, 1, 2]),
    "cached_nonlin_attn_0": (F, [1, 1, 2, 3]),
    "cached_val1_0": (F, [2, 1, 2]),
    "cached_val2_0": (F, [2, 1, 2]),
    "cached_conv1_0": (F, [1, 4, 1]),
    "cached_conv2_0": (F, [1, 4, 1]),
    "embed_states": (F, [1, 128, 3, 19]),
    "processed_lens": (I64, [1]),
}


def zipformer2_ctc():
    graph = Graph("zipformer2-ctc")
    graph.input("x", F, [1, 45, 80])
    level = level_of_frames(graph, "x", 32, 4)
    graph.node("LogSoftmax", [graph.scores(level, LEVELS, blank=0)], "log_probs", axis=2)
    graph.output("log_probs", F, [1, 8, 4])
    graph.states(ZIPFORMER2_STATES)
    graph.save(HERE / "zipformer2-ctc/ctc-epoch-20-avg-1-chunk-16-left-128.onnx", ZIPFORMER2)
    tokens("zipformer2-ctc", ["<blk>", "▁SO", "FT", "▁LOUD"])


def zipformer2_transducer():
    encoder = Graph("encoder")
    encoder.input("x", F, [1, 45, 80])
    level = level_of_frames(encoder, "x", 32, 4)
    encoder.node("Identity", [encoder.scores(level, LEVELS, blank=0)], "encoder_out")
    encoder.output("encoder_out", F, [1, 8, 4])
    encoder.states(ZIPFORMER2_STATES)
    folder = HERE / "zipformer2-transducer"
    encoder.save(folder / "encoder-epoch-99-avg-1-chunk-16-left-128.onnx", ZIPFORMER2)

    decoder = Graph("decoder")
    decoder.input("y", I64, ["N", 2])
    last = decoder.node("Gather", ["y", decoder.constant(1, np.int64)], axis=1)
    decoder.node("Gather", [decoder.constant(once(blank=0)), last], "decoder_out")
    decoder.output("decoder_out", F, ["N", 4])
    decoder.save(
        folder / "decoder-epoch-99-avg-1-chunk-16-left-128.onnx",
        {"context_size": 2, "vocab_size": 4},
    )

    joiner = Graph("joiner")
    joiner.input("encoder_out", F, ["N", 4])
    joiner.input("decoder_out", F, ["N", 4])
    join(joiner, "encoder_out", "decoder_out", blank=0)
    joiner.output("logit", F, ["N", 4])
    joiner.save(folder / "joiner-epoch-99-avg-1-chunk-16-left-128.onnx", {"joiner_dim": 4})
    tokens("zipformer2-transducer", ["<blk>", "▁SO", "FT", "▁LOUD"])


def once(blank):
    """Scores by last token, [4, 4], that keep a token other than blank from being repeated."""
    table = np.zeros((4, 4), np.float32)
    said = [token for token in range(4) if token != blank]
    table[said, said] = -1e4
    return table


def join(graph, encoder_out, decoder_out, blank):
    """Adds a joiner: the encoder's best token wins, or blank if that token was emitted last."""
    others, floor = np.full(4, -20.0, np.float32), np.full(4, -1e5, np.float32)
    others[blank], floor[blank] = 0.0, -2.0
    best = graph.node("ReduceMax", [encoder_out], axes=[1], keepdims=1)
    is_best = graph.node(
        "Cast", [graph.node("Not", [graph.node("Less", [encoder_out, best])])], to=F
    )
    lowered = graph.node(
        "Mul", [graph.node("Sub", [graph.constant(1.0), is_best]), graph.constant(others)]
    )
    total = graph.node("Add", [graph.node("Add", [encoder_out, decoder_out]), lowered])
    graph.node("Max", [graph.node("Sub", [total, best]), graph.constant(floor)], "logit")


NEMO = {
    "vocab_size": 3,
    "window_size": 40,
    "chunk_shift": 32,
    "normalize_type": "NA",
    "subsampling_factor": 8,
    "cache_last_channel_dim1": 1,
    "cache_last_channel_dim2": 2,
    "cache_last_channel_dim3": 3,
    "cache_last_time_dim1": 1,
    "cache_last_time_dim2": 3,
    "cache_last_time_dim3": 2,
}
NEMO_STATES = {
    "cache_last_channel": (F, [1, 1, 2, 3]),
    "cache_last_time": (F, [1, 1, 3, 2]),
    "cache_last_channel_len": (I64, [1]),
}


def nemo_ctc():
    graph = Graph("nemo-ctc")
    graph.input("audio_signal", F, [1, 80, "T"])
    graph.input("length", I64, [1])
    frames = graph.node("Transpose", ["audio_signal"], perm=[0, 2, 1])
    level = level_of_frames(graph, frames, 32, 8)
    graph.node("LogSoftmax", [graph.scores(level, NEMO_LEVELS, blank=3)], "logprobs", axis=2)
    graph.output("logprobs", F, [1, 4, 4])
    graph.node("Identity", ["length"], "encoded_lengths")
    graph.output("encoded_lengths", I64, [1])
    graph.states(NEMO_STATES)
    graph.save(HERE / "nemo-ctc/model.onnx", NEMO | {"model_type": "EncDecHybridRNNTCTCBPEModel"})
    tokens("nemo-ctc", ["▁so", "ft", "▁loud", "<blk>"])


def nemo_transducer():
    folder = HERE / "nemo-transducer"
    encoder = Graph("encoder")
    encoder.input("audio_signal", F, [1, 80, "T"])
    encoder.input("length", I64, [1])
    frames = encoder.node("Transpose", ["audio_signal"], perm=[0, 2, 1])
    level = level_of_frames(encoder, frames, 32, 8)
    encoder.node(
        "Transpose", [encoder.scores(level, NEMO_LEVELS, blank=3)], "outputs", perm=[0, 2, 1]
    )
    encoder.output("outputs", F, [1, 4, 4])
    encoder.node("Identity", ["length"], "encoded_lengths")
    encoder.output("encoded_lengths", I64, [1])
    encoder.states(NEMO_STATES)
    encoder.save(
        folder / "encoder.onnx",
        NEMO
        | {"model_type": "EncDecHybridRNNTCTCBPEModel", "pred_rnn_layers": 1, "pred_hidden": 2},
    )

    decoder = Graph("decoder")
    decoder.input("targets", I32, [1, 1])
    decoder.input("target_length", I32, [1])
    states = {"states.1": (F, [1, 1, 2]), "onnx::LSTM_3": (F, [1, 1, 2])}
    rows = decoder.node("Gather", [decoder.constant(once(blank=3)), "targets"])
    decoder.node("Transpose", [rows], "outputs", perm=[0, 2, 1])
    decoder.output("outputs", F, [1, 4, 1])
    decoder.node("Identity", ["target_length"], "prednet_lengths")
    decoder.output("prednet_lengths", I32, [1])
    decoder.states(states)
    decoder.save(folder / "decoder.onnx", {})

    joiner = Graph("joiner")
    joiner.input("encoder_outputs", F, [1, 4, 1])
    joiner.input("decoder_outputs", F, [1, 4, 1])
    flat = joiner.constant([1, 4], np.int64)
    join(
        joiner,
        joiner.node("Reshape", ["encoder_outputs", flat]),
        joiner.node("Reshape", ["decoder_outputs", flat]),
        blank=3,
    )
    joiner.node("Reshape", ["logit", joiner.constant([1, 1, 1, 4], np.int64)], "outputs")
    joiner.output("outputs", F, [1, 1, 1, 4])
    joiner.save(folder / "joiner.onnx", {})
    tokens("nemo-transducer", ["▁so", "ft", "▁loud", "<blk>"])


def t_one_ctc():
    graph = Graph("t-one-ctc")
    graph.input("signal", I32, [1, 2400, 1])
    graph.input("state", F16, [1, 5])
    samples = graph.node(
        "Reshape", [graph.node("Cast", ["signal"], to=F), graph.constant([1, 10, 240], np.int64)]
    )
    square = graph.node("ReduceMean", [graph.node("Mul", [samples, samples])], axes=[2], keepdims=1)
    level = graph.node("Log", [graph.node("Add", [square, graph.constant(1.0)])])
    graph.node("LogSoftmax", [graph.scores(level, SQUARE_LEVELS, blank=3)], "logprobs", axis=2)
    graph.output("logprobs", F, [1, 10, 4])
    graph.node("Identity", ["state"], "new_state")
    graph.output("new_state", F16, [1, 5])
    graph.save(
        HERE / "t-one-ctc/model.onnx", {"frame_length_ms": 300, "state_dim": 5, "sample_rate": 8000}
    )
    # The tokens are letters, and a token for the space between words.
    tokens("t-one-ctc", ["s", "o", " ", "<blk>"])


def paraformer():
    encoder = Graph("encoder")
    encoder.input("speech", F, [1, "T", 560])
    encoder.input("speech_lengths", I32, [1])
    level = encoder.node("ReduceMean", ["speech"], axes=[2], keepdims=1)
    encoder.node("Identity", [encoder.scores(level, PARAFORMER_LEVELS, blank=0)], "enc")
    encoder.output("enc", F, [1, "T", 4])
    encoder.node("Identity", ["speech_lengths"], "enc_len")
    encoder.output("enc_len", I32, [1])
    voiced = encoder.node(
        "Cast", [encoder.node("Greater", [level, encoder.constant(PARAFORMER_LEVELS[0])])], to=F
    )
    encoder.node(
        "Squeeze",
        [encoder.node("Mul", [voiced, encoder.constant(0.5)]), encoder.constant([2], np.int64)],
        "alphas",
    )
    encoder.output("alphas", F, [1, "T"])
    metadata = {
        "vocab_size": 4,
        "lfr_window_size": 7,
        "lfr_window_shift": 6,
        "encoder_output_size": 4,
        "decoder_num_blocks": 1,
        "decoder_kernel_size": 2,
        "neg_mean": ",".join(["0"] * 560),
        "inv_stddev": ",".join(["0.5"] * 560),
    }
    encoder.save(HERE / "paraformer/encoder.onnx", metadata)

    decoder = Graph("decoder")
    decoder.input("enc", F, [1, "T", 4])
    decoder.input("enc_len", I32, [1])
    decoder.input("acoustic_embeds", F, [1, "n", 4])
    decoder.input("acoustic_embeds_len", I32, [1])
    decoder.input("in_cache_0", F, [1, 4, 1])
    decoder.node("Identity", ["acoustic_embeds"], "logits")
    decoder.output("logits", F, [1, "n", 4])
    decoder.node("ArgMax", ["acoustic_embeds"], "sample_ids", axis=2, keepdims=0)
    decoder.output("sample_ids", I64, [1, "n"])
    decoder.node("Identity", ["in_cache_0"], "out_cache_0")
    decoder.output("out_cache_0", F, [1, 4, 1])
    decoder.save(HERE / "paraformer/decoder.onnx", {})
    tokens("paraformer", ["<blank>", "so@@", "ft", "loud"])


if __name__ == "__main__":
    zipformer2_ctc()
    zipformer2_transducer()
    nemo_ctc()
    nemo_transducer()
    t_one_ctc()
    paraformer()
