"""Language models with merging inside one visual span, float64.

The step at layer K takes its scores from the attention of layer K - 1 and acts on the residual stream that enters layer
K; tokens are alike by the keys of layer K - 1 before rotation, averaged over the heads. Layers from K on see text and
survivors only; nobody's position changes.

`image`: s_i = (1 / (H N)) sum_h sum_j A[h, j, i] over the N rows j of the span. A is normalised over all keys a row sees.
`last-token`: s_i = (1 / H) sum_h A[h, last, i].
`question`: the mean over the rows behind the span, without those that are generated.
`prompt`: the mean over all rows of the prompt.
`raters`: the mean over those rows j of the text with m_j above the mean of m, where m_j = mean_i of the softmax over
the text's rows of (embedding of the picture's row i) . (embedding of row j).
"""

from dataclasses import dataclass, field

import torch

from .arithmetic import EXACT, Arithmetic, frequencies, heads, rms_norm, rotate
from .merge import Step, folded, merge
from .strategies import Inputs, Rule, reduce
from .thinning import take_up, thinned_step
from .weights import Weights


@dataclass
class Prompt:
    """Token ids around one visual span and the span's embeddings [n, width].

    `generated` are tokens that follow the prompt: they take no part in any score.
    `sizes` [n] is how many original tokens each of the span's stands for; None is one each.
    `positions` [rows, 3] are (t, h, w); without M-RoPE the three are equal.
    """

    before: list[int]
    span: torch.Tensor
    after: list[int]
    positions: torch.Tensor
    generated: list[int] = field(default_factory=list)
    sizes: torch.Tensor | None = None


def sequential_positions(before: int, span: int, after: int) -> torch.Tensor:
    """Consecutive positions, [rows, 3]."""
    rows = before + span + after
    return torch.arange(rows, dtype=torch.float64)[:, None].expand(rows, 3)


def grid_positions(before: int, cells: list[int], rows: int, columns: int, after: int) -> torch.Tensor:
    """M-RoPE positions, [rows, 3]: cell c of the span has t = p, h = p + row, w = p + column.

    The text after the span goes on at p + max(rows, columns), whatever was merged.
    """
    head = torch.arange(before, dtype=torch.float64)[:, None].expand(before, 3)
    span = [[before, before + c // columns, before + c % columns] for c in cells]
    next_position = before + max(rows, columns)
    tail = next_position + torch.arange(after, dtype=torch.float64)[:, None].expand(after, 3)
    return torch.cat([head, torch.tensor(span, dtype=torch.float64), tail])


class Decoder:
    def __init__(self, weights: Weights, rounding: str = EXACT):
        self.w = weights
        self.math = Arithmetic(rounding)
        f = weights.fields
        arch = f["general.architecture"]
        self.layers = f[f"{arch}.block_count"] - f.get(f"{arch}.nextn_predict_layers", 0)
        self.heads = f[f"{arch}.attention.head_count"]
        self.kv_heads = f[f"{arch}.attention.head_count_kv"]  # one number, or one a layer
        self.eps = f[f"{arch}.attention.layer_norm_rms_epsilon"]
        self.width = f[f"{arch}.embedding_length"]
        self.size = f.get(f"{arch}.attention.key_length", self.width // self.heads)
        self.base = f[f"{arch}.rope.freq_base"]
        self.sections = f.get(f"{arch}.rope.dimension_sections")
        # Files of these architectures pair neighbouring values, the others halves.
        self.interleaved = arch in ("ernie4_5", "granite", "internlm2", "llama", "mistral3", "smollm3")
        # Qwen3-VL deals its frequencies out in turn: t, h, w, t, h, w, ..., as many to h and w as their sections say.
        self.alternating = arch in ("qwen3vl", "qwen3vlmoe")
        # The first layers add a part each of what follows the residual in a span's rows.
        self.deepstack = f.get(f"{arch}.n_deepstack_layers", 0)
        self.experts_used = f.get(f"{arch}.expert_used_count", 0)
        self.rotated = f.get(f"{arch}.rope.dimension_count", self.size)
        # SmolLM3: every fourth layer has no positions.
        self.unturned = 4 if arch == "smollm3" else 0
        # Gemma 3: a picture's rows see each other both ways; of every `window_every` layers all but the last see
        # `window` positions and turn by 10,000. Gemma 4: the same, both ways in layers with a window only; the others
        # have heads of another size and take keys for values, values are normalised, a quarter of a head's pairs turns.
        self.gemma, self.gemma4 = arch in ("gemma3", "gemma4"), arch == "gemma4"
        self.window = f.get(f"{arch}.attention.sliding_window", 0)
        self.window_every = f.get(f"{arch}.attention.sliding_window_pattern", 6)
        self.window_size = f.get(f"{arch}.attention.key_length_swa", self.size)
        self.softcap = f.get(f"{arch}.final_logit_softcapping")
        # GLM-4.5: experts are chosen by a sigmoid and a bias, beside one that all rows pass.
        self.glm_moe = arch == "glm4moe"
        self.experts_scale = f.get(f"{arch}.expert_weights_scale", 1.0)
        self.before_mlp = "post_attention_norm" if self.glm_moe else "ffn_norm"
        # Granite multiplies every row that enters, what a layer adds, and queries by keys; and divides logits.
        scale = lambda name, default: f.get(f"{arch}.{name}_scale", default)
        self.embedding, self.residual = scale("embedding", 1.0), scale("residual", 1.0)
        self.attention = 1.0 if self.gemma4 else f.get(f"{arch}.attention.scale")
        self.logit = scale("logit", 1.0)

    def _windowed(self, layer: int) -> bool:
        if isinstance(self.window_every, list):
            return bool(self.window_every[layer])
        return self.window > 0 and layer % self.window_every < self.window_every - 1

    def _size(self, layer: int) -> int:
        """Values of a head."""
        return self.window_size if self._windowed(layer) else self.size

    def _kv_heads(self, layer: int) -> int:
        return self.kv_heads[layer] if isinstance(self.kv_heads, list) else self.kv_heads

    def _angles(self, positions: torch.Tensor, layer: int) -> torch.Tensor:
        windowed = self._windowed(layer)
        rotated = self.window_size if windowed and self.gemma4 else self.rotated
        freq = frequencies(rotated // 2, 1e4 if windowed else self.base)
        factors = self.w.get("rope_freqs.weight")
        if factors is not None and not windowed:
            freq = freq / factors
        if self.sections is None:
            return positions[:, :1] * freq
        # The first section of frequencies turns with t, the next with h, then w.
        axis = [a for a, count in enumerate(self.sections[:3]) for _ in range(count)]
        if self.alternating:
            axis = [i % 3 if i < 3 * self.sections[i % 3] else 0 for i in range(rotated // 2)]
        return positions[:, axis] * freq

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return self.math.linear(x, self.w[f"{name}.weight"], self.w.get(f"{name}.bias"))

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return rms_norm(x, self.w[f"{name}.weight"], self.eps)

    def _parts(self, x: torch.Tensor, layer: int):
        """Queries, keys and values [heads, rows, size]."""
        name, size, kv_heads = f"blk.{layer}", self._size(layer), self._kv_heads(layer)
        if f"{name}.attn_qkv.weight" in self.w:
            sizes = [self.heads * size, kv_heads * size, kv_heads * size]
            q, k, v = self._linear(x, f"{name}.attn_qkv").split(sizes, dim=1)
        else:
            q, k = (self._linear(x, f"{name}.attn_{part}") for part in "qk")
            v = self._linear(x, f"{name}.attn_v") if f"{name}.attn_v.weight" in self.w else k
        q, k, v = heads(q, self.heads), heads(k, kv_heads), heads(v, kv_heads)
        if self.gemma4:
            v = rms_norm(v, torch.ones(size), self.eps)
        if f"{name}.attn_q_norm.weight" in self.w:
            q, k = self._norm(q, f"{name}.attn_q_norm"), self._norm(k, f"{name}.attn_k_norm")
        return q, k, v

    def _visible(self, layer: int, positions: torch.Tensor, spans: list[range]) -> torch.Tensor:
        # Rows are in the order of the prompt, so causal means lower-triangular.
        visible = torch.ones(len(positions), len(positions), dtype=torch.bool).tril()
        for span in spans if self.gemma and (self._windowed(layer) or not self.gemma4) else []:
            visible[span.start : span.stop, span.start : span.stop] = True
        if self._windowed(layer):
            visible &= positions[:, :1] - positions[:, 0] < self.window
        return visible

    def _layer(self, x, layer, positions, spans, counts=None, past=None):
        """What enters the next layer, the weights of attention, and the keys by which tokens are alike."""
        name = f"blk.{layer}"
        out, weights, keys = self._attention(self._norm(x, f"{name}.attn_norm"), layer, positions, spans, counts, past)
        x = x + self.residual * (out if self.glm_moe else self._normed(out, f"{name}.post_attention_norm"))
        hidden = self._mlp(x, layer)
        x = x + self.residual * self._normed(hidden, f"{name}.post_ffw_norm")
        scale = self.w.get(f"{name}.layer_output_scale.weight")
        return x if scale is None else x * scale, weights, keys

    def _normed(self, x: torch.Tensor, name: str) -> torch.Tensor:
        return self._norm(x, name) if f"{name}.weight" in self.w else x

    def _rows(self, x, layer, positions):
        """Queries, keys and values [heads, rows, size] as attention takes them, and keys before rotation."""
        size = self._size(layer)
        q, k, v = self._parts(x, layer)
        features = k.mean(dim=0)
        if not self.unturned or (layer + 1) % self.unturned:
            angles = self._angles(positions, layer)
            rotated = 2 * angles.shape[1]
            turned = lambda p: rotate(p[..., :rotated], angles, self.interleaved)
            q, k = (torch.cat([turned(p), p[..., rotated:]], dim=-1) for p in (q, k))
        if self.attention is not None:
            q = q * (self.attention * size**0.5)
        return q, k, v, features

    def _attention(self, x, layer, positions, spans, counts=None, past=None):
        """`past` are keys and values of rows that stand before those of x, all of which x sees."""
        q, k, v, features = self._rows(x, layer, positions)
        self.cached = k, v
        visible = self._visible(layer, positions, spans)
        if past is not None:
            visible = torch.cat([torch.ones(len(x), past[0].shape[1], dtype=torch.bool), visible], dim=1)
            k, v = torch.cat([past[0], k], dim=1), torch.cat([past[1], v], dim=1)
        share = self.heads // len(k)
        k, v = k.repeat_interleave(share, 0), v.repeat_interleave(share, 0)
        out, weights = self.math.attention(q, k, v, visible, counts)
        return self._linear(out, f"blk.{layer}.attn_output"), weights, features

    def _gated(self, x: torch.Tensor, gate: torch.Tensor, up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
        """SwiGLU, or GEGLU."""
        gate = self.math.linear(x, gate)
        gate = self.math.gelu(gate) if self.gemma else gate * torch.sigmoid(gate)
        return self.math.linear(gate * self.math.linear(x, up), down)

    def _mlp(self, x: torch.Tensor, layer: int) -> torch.Tensor:
        """The MLP of the rows that enter its norm, with what experts add."""
        name = f"blk.{layer}"
        entering = self._norm(x, f"{name}.{self.before_mlp}")
        if f"{name}.ffn_gate_inp.weight" in self.w:
            if not self.gemma4:
                return self._experts(entering, entering, layer)
            router = rms_norm(x, self.w[f"{name}.ffn_gate_inp.scale"], self.eps) / self.width**0.5
            experts = self._experts(router, self._norm(x, f"{name}.pre_ffw_norm_2"), layer)
            beside = self._norm(self._gated(entering, *self._matrices(name, "")), f"{name}.post_ffw_norm_1")
            return beside + self._norm(experts, f"{name}.post_ffw_norm_2")
        if f"{name}.ffn_gate.weight" not in self.w:
            gate, up = self.w[f"{name}.ffn_up.weight"].chunk(2)
            return self._gated(entering, gate, up, self.w[f"{name}.ffn_down.weight"])
        return self._gated(entering, *self._matrices(name, ""))

    def _matrices(self, name: str, kind: str) -> tuple[torch.Tensor, ...]:
        return tuple(self.w[f"{name}.ffn_{part}{kind}.weight"] for part in ("gate", "up", "down"))

    def _experts(self, router: torch.Tensor, x: torch.Tensor, layer: int) -> torch.Tensor:
        """The sum of the likeliest experts, weighted by their softmax among themselves or by their sigmoids' shares."""
        name = f"blk.{layer}"
        logits = self._linear(router, f"{name}.ffn_gate_inp")
        if self.glm_moe:
            scores = torch.sigmoid(logits)
            chosen = (scores + self.w[f"{name}.exp_probs_b.bias"]).topk(self.experts_used).indices
            shares = scores.gather(1, chosen)
            shares = self.experts_scale * shares / shares.sum(1, keepdim=True)
        else:
            best, chosen = logits.topk(self.experts_used)
            shares = torch.softmax(best, dim=-1)
        scale = self.w.get(f"{name}.ffn_down_exps.scale")
        shares = shares if scale is None else shares * scale[chosen]
        gates, ups, downs = self._matrices(name, "_exps")
        rows = []
        for row, weights, experts in zip(x, shares, chosen.tolist()):
            rows.append(weights @ torch.stack([self._gated(row, gates[e], ups[e], downs[e]) for e in experts]))
        out = torch.stack(rows)
        return out + self._gated(x, *self._matrices(name, "_shexp")) if self.glm_moe else out

    def _image_features(self, span: torch.Tensor, layer: int) -> torch.Tensor:
        """Features that layer `layer` adds to the span's rows."""
        return span[:, (layer + 1) * self.width : (layer + 2) * self.width].double()

    def _entering(self, parts: list[list[int] | torch.Tensor]) -> torch.Tensor:
        """Rows of texts and of spans as they enter the first layer. Gemma scales its texts alone."""
        table, text = self.w["token_embd.weight"], self.width**0.5 if self.gemma else 1.0
        rows = [p[:, : self.width].double() if isinstance(p, torch.Tensor) else table[p] * text for p in parts]
        return torch.cat(rows) * self.embedding

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        output = self.w.get("output.weight")
        output = self.w["token_embd.weight"] if output is None else output
        logits = self.math.linear(self._norm(x, "output_norm"), output)[0] / self.logit
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def prefill(
        self, prompt: Prompt, schedule: dict[int, int], score: str = "image", rule: Rule = Rule()
    ) -> tuple[torch.Tensor, list[Step]]:
        """Logits after the last token, and the steps. `schedule` maps K to r."""
        sizes = torch.ones(len(prompt.span)) if prompt.sizes is None else prompt.sizes
        sizes = sizes.double()
        x = self._entering([prompt.before, prompt.span, prompt.after + prompt.generated])
        positions = prompt.positions
        first, alive = len(prompt.before), list(range(len(prompt.span)))
        steps, weights, keys, planned = [], None, None, len(prompt.span)
        asking = torch.arange(len(prompt.after))
        if score == "raters":
            products = self._entering([prompt.span]) @ self._entering([prompt.after]).T
            share = torch.softmax(products, dim=1).mean(0)
            asking = torch.nonzero(share > share.mean())[:, 0]
        for layer in range(self.layers):
            r = schedule.get(layer, 0)
            if r > 0:
                end = first + len(alive)
                planned -= r
                r = len(alive) - min(planned, len(alive))
                if score in ("question", "raters"):
                    scores = weights[:, end + asking, first:end].mean(dim=(0, 1))
                else:
                    scores = self._scores(weights, first, end, score, len(prompt.generated))
                step = Step("decoder", layer, len(alive), scores, [], [], None)
                if rule.name == "merge":
                    span, kept, chosen = merge(x[first:end], scores, r)
                    step.into = alive[chosen[-1]]
                else:
                    step.inputs = Inputs(keys[first:end], scores, sizes, r, 1, layer, x[first:end], rule.mass)
                    span, kept, chosen, groups, sizes = reduce(rule, x[first:end], step.inputs)
                    step.groups = [[alive[i] for i in group] for group in groups]
                x = torch.cat([x[:first], span, x[end:]])
                rows = [*range(first), *(first + i for i in kept), *range(end, len(positions))]
                positions = positions[rows]
                step.kept = [alive[i] for i in kept]
                step.merged = [alive[i] for i in chosen]
                step.residual = span
                steps.append(step)
                alive = step.kept
            x, weights, keys = self._layer(x, layer, positions, [range(first, first + len(alive))])
            if layer < self.deepstack:
                x[first : first + len(alive)] += self._image_features(prompt.span, layer)
        return self._logits(x[-1:]), steps

    def prefill_spans(
        self,
        parts: list[list[int] | torch.Tensor],
        positions: torch.Tensor,
        layer_keep: dict[int, float],
        sizes: list[torch.Tensor] | None = None,
    ) -> tuple[torch.Tensor, list[tuple[int, Step]]]:
        """As `prefill` for text and any number of spans (tensors [n, width]), each merged on its own.

        `layer_keep` maps K to the share of a span's rows that stays; scores are `image`. The steps
        come with the span's number. With the `sizes` of each span's rows every layer's attention counts a row
        as often as it stands for original ones, text once; what a step folds together counts together.
        """
        x = self._entering(parts)
        spans, at = [], 0
        for part in parts:
            if isinstance(part, torch.Tensor):
                spans.append([at, list(range(len(part)))])
            at += len(part)
        steps, weights = [], None
        counts = torch.ones(len(x), dtype=torch.float64)
        for (first, alive), of_span in zip(spans, sizes or []):
            counts[first : first + len(alive)] = of_span
        for layer in range(self.layers):
            keep = layer_keep.get(layer)
            shift = 0
            for number, span in enumerate(spans if keep is not None else []):
                first, alive = span[0] - shift, span[1]
                end = first + len(alive)
                # The attention is that of the rows before any span of this layer was merged.
                old = span[0]
                scores = self._scores(weights, old, old + len(alive), "image", 0)
                r = round(round((1 - keep) * len(alive), 9))
                merged, kept, chosen = merge(x[first:end], scores, r)
                x = torch.cat([x[:first], merged, x[end:]])
                positions = torch.cat([positions[:first], positions[first:end][kept], positions[end:]])
                together = folded(counts[first:end], kept, chosen)
                counts = torch.cat([counts[:first], together, counts[end:]])
                original = [alive[i] for i in kept]
                order = [alive[i] for i in chosen]
                steps.append((number, Step("decoder", layer, len(alive), scores, original, order, order[-1])))
                span[:] = [first, original]
                shift += r
            pictures = [range(at, at + len(alive)) for at, alive in spans]
            x, weights, _ = self._layer(x, layer, positions, pictures, counts if sizes is not None else None)
            if layer < self.deepstack:
                for (at, alive), part in zip(spans, (p for p in parts if isinstance(p, torch.Tensor))):
                    x[at : at + len(alive)] += self._image_features(part, layer)
        return self._logits(x[-1:]), steps

    def prefill_thinned(
        self, prompt: Prompt, gone: dict[int, int], how: str, following: int
    ) -> tuple[torch.Tensor, list[Step], torch.Tensor]:
        """As `prefill` without merging, of a cache that is thinned behind the prompt (LOOK-M).

        `gone` maps the first layer of each stretch of layers to the rows of the span whose cells it lets go. The stretch
        ranks them by the attention of its last layer from the whole prompt. Returns the prompt's logits, the steps, whose
        residual is what the rows that stay hold in the stretch, and the logits of the token `following` behind it.
        """
        x = self._entering([prompt.before, prompt.span, prompt.after])
        first, n, rows = len(prompt.before), len(prompt.span), len(x)
        positions, starts, cells, steps = prompt.positions, sorted(gone), [], []
        for layer in range(self.layers):
            x, weights, _ = self._layer(x, layer, positions, [range(first, first + n)])
            cells.append(self.cached)
            if layer + 1 in starts or layer + 1 == self.layers:
                start = max(s for s in starts if s <= layer)
                scores = weights[:, :, first : first + n].mean(dim=(0, 1))
                latest = max(0, rows * (n - gone[start]) // (2 * n) - len(prompt.after))
                step = thinned_step(start, scores, gone[start], latest)
                stay = [*(first + i for i in step.kept), *range(first + n, rows)]
                lost = [first + i for i in step.merged]
                step.inputs = cells[start : layer + 1], lost, stay
                for at in range(start, layer + 1):
                    merged = take_up(*cells[at], lost, stay, how)
                    cells[at] = [torch.cat([old[:, :first], new], dim=1) for old, new in zip(cells[at], merged)]
                held = [[c[part][:, first : first + len(step.kept)] for c in cells[start : layer + 1]] for part in (0, 1)]
                step.residual = torch.cat([c.transpose(0, 1).reshape(-1) for part in held for c in part])
                steps.append(step)
        logits = self._logits(x[-1:])
        x, position = self._entering([[following]]), positions[-1:] + 1
        for layer in range(self.layers):
            x, _, _ = self._layer(x, layer, position, [], past=cells[layer])
        return logits, steps, self._logits(x)

    @staticmethod
    def _scores(weights: torch.Tensor, first: int, end: int, score: str, generated: int) -> torch.Tensor:
        if score == "image":
            return weights[:, first:end, first:end].mean(dim=(0, 1))
        if score == "last-token":
            return weights[:, -1 - generated, first:end].mean(dim=0)
        raise ValueError(f"no score called {score!r}")
