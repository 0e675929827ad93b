"""Reads DINOv2 ViT-S/14 out of an ONNX graph.

The graph's linear layers have lost their names; the nodes that use them have kept theirs. Layer scale is folded into the
projection before it, which changes no result: scale * (W x + b) = (scale W) x + scale b.
"""

import numpy as np

PATCH, WIDTH, HEADS, LAYERS = 14, 384, 6, 12
EPSILON = 1e-6
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Ours on the left, the graph's on the right; the third is the layer scale that is folded in.
PARTS = (
    ("ln1", "norm1", None),
    ("attn_q", "attention.attention.query", None),
    ("attn_k", "attention.attention.key", None),
    ("attn_v", "attention.attention.value", None),
    ("attn_out", "attention.output.dense", "layer_scale1"),
    ("ln2", "norm2", None),
    ("ffn_up", "mlp.fc1", None),
    ("ffn_down", "mlp.fc2", "layer_scale2"),
)


def weights(graph_bytes: bytes) -> dict[str, np.ndarray]:
    """Returns the tower's tensors in float32 under llama.cpp's names, without `v.position_embd.weight`.

    `positions` is the table of the graph, [37, 37, 384]; `position_class` the class token's row, [384].
    """
    # Not at the top: position tables need no ONNX.
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_model_from_string(graph_bytes).graph
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    named = {name: value for name, value in stored.items() if not name.startswith("onnx::")}
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in stored:
            layer = node.name.strip("/").replace("/", ".").removesuffix(".MatMul")
            named[layer + ".weight"] = stored[node.input[1]].T

    tables = {value.shape: value for name, value in stored.items() if name.startswith("onnx::")}
    found = {
        "positions": tables[1, 37 * 37, WIDTH].reshape(37, 37, WIDTH),
        "position_class": tables[1, 1, WIDTH].reshape(WIDTH),
        "v.patch_embd.weight": named["backbone.embeddings.patch_embeddings.projection.weight"],
        "v.patch_embd.bias": named["backbone.embeddings.patch_embeddings.projection.bias"],
        "v.class_embd": named["backbone.embeddings.cls_token"].reshape(WIDTH),
        "v.post_ln.weight": named["backbone.layernorm.weight"],
        "v.post_ln.bias": named["backbone.layernorm.bias"],
    }
    for layer in range(LAYERS):
        prefix = f"backbone.encoder.layer.{layer}."
        for ours, theirs, scale in PARTS:
            weight, bias = named[f"{prefix}{theirs}.weight"], named[f"{prefix}{theirs}.bias"]
            if scale:
                factor = named[f"{prefix}{scale}.lambda1"]
                weight, bias = weight * factor[:, None], bias * factor
            found[f"v.blk.{layer}.{ours}.weight"] = weight
            found[f"v.blk.{layer}.{ours}.bias"] = bias
    return found


def cubic(count: int, wanted: int, a: float = -0.75) -> np.ndarray:
    """Weights [wanted, count] that resample `count` values bicubically: half-pixel centres, the edge repeated."""
    table = np.zeros((wanted, count))
    for row in range(wanted):
        at = (row + 0.5) * count / wanted - 0.5
        for column in range(int(np.floor(at)) - 1, int(np.floor(at)) + 3):
            d = abs(at - column)
            near = ((a + 2) * d - (a + 3)) * d * d + 1
            far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
            table[row, min(max(column, 0), count - 1)] += near if d <= 1 else far if d < 2 else 0
    return table


def position_table(tensors: dict[str, np.ndarray], across: int) -> np.ndarray:
    """Returns position rows for `across` x `across` patches, the class token's first: [1 + across^2, 384].

    The table is resampled as DINOv2 does it: bicubic, half-pixel centres.
    """
    weights = cubic(37, across)
    rows = np.einsum("ai,bj,ijd->abd", weights, weights, tensors["positions"]).reshape(across * across, WIDTH)
    return np.concatenate([tensors["position_class"][None], rows]).astype(np.float32)
