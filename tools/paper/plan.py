"""The paper's tables and figures as runs: which schedule, which sets, which rows."""

from evidence.runs import decoder_flags, encoder_flags
from evidence.shape import from_inspection

from .runs import Absent
from .sets import FIGURE_1, FIGURE_4, FIGURE_5, MEAN, TABLE_1, TABLE_2, TABLE_10
from .tables import Table, mean_of, memory, seconds, speed, value

# Shares of tokens of the paper: 361 of 729 after the encoder, 253 of these 361 in the decoder.
KEPT, DEEPER = 361 / 729, 253 / 361
BUDGETS = ("0.5", "0.25", "0.15")
# Names that publications use for strategies of this program.
KNOWN = {"merge": "iLLaVA (merge)", "prune": "attention (prune)", "bipartite": "ToMe (bipartite)", "prumerge": "LLaVA-PruMerge",
         "kmeans": "k-means", "greedy": "greedy merging", "random": "random", "fastv": "FastV", "pyramiddrop": "PyramidDrop",
         "visionzip": "VisionZip", "hired": "HiRED", "sparsevlm": "SparseVLM", "zipvl": "ZipVL", "crop": "CLIP (crop)",
         "free-videollm": "Free-VideoLLM"}
# Strategies that the paper's Tables 4 and 7 compare at a layer.
AT_LAYERS = ("merge", "prune", "random", "greedy", "bipartite", "kmeans")


class Plan:
    """Everything about one pair, and about the others where the paper has several models."""

    def __init__(self, program, pairs, small, merge, also, extra):
        self.program, self.pairs, self.small = program, pairs, small
        self.merge, self.also, self.extra = merge, tuple(also), tuple(extra)
        self.base = pairs[0]
        self._shape = self._strategies = None

    def shape(self):
        if self._shape is None:
            self._shape = from_inspection(self.program.shape(self.base))
        return self._shape

    def strategies(self):
        if self._strategies is None:
            self._strategies = self.program.strategies(self.base)
        return self._strategies

    def run(self, pair, name, flags, against=()):
        return self.program.run(pair, name, (*flags, *self.extra), against)

    def compared(self, pair, name, budgets=()):
        """Off, the schedule, those beside it and other budgets, in one call."""
        return self.run(pair, name, ("--merge", self.merge), (*self.also, *budgets))

    # Tables 1, 2 and 10: sets in columns, off and the schedules in rows.
    def over_sets(self, number, title, names, pairs):
        table = Table(number, title, "Accuracy in % with its 95 % interval, then the difference against off in points, question by question. "
                      "MME: cognition/perception. Ratings are of 5.", list(names))
        for pair in pairs:
            found = [self.compared(pair, name) for name in names]
            for schedule, label in enumerate(("off", self.merge, *self.also)):
                table.add(f"{pair.name}, {label}", [value(summary, schedule, name) for summary, name in zip(found, names)])
            table.add(f"{pair.name}, questions", [_count(summary, name) for summary, name in zip(found, names)])
        return table

    def table_1(self):
        return self.over_sets("1", "Table 1: pictures", TABLE_1, self.pairs)

    def table_2(self):
        return self.over_sets("2", "Table 2: videos", TABLE_2, self.pairs)

    def table_10(self):
        return self.over_sets("10", "Table 10: documents", TABLE_10, self.pairs[:1])

    # Table 3: methods at equal numbers of tokens.
    def table_3(self):
        known, refused = self.strategies()
        table = Table("3", "Table 3: methods at the same number of tokens",
                      f"MMMU, {self.base.name}. Each strategy leaves as many tokens as `{self.merge}` does. Throughput: questions a second by the "
                      "median answer. Memory: weights, KV cache and compute buffers.", ["accuracy", "throughput", "memory, GiB", "tokens"])
        flags = ("--merge", self.merge)
        against = tuple(f"{self.merge}/{name}" for name in known)
        summary = self.run(self.base, "MMMU", flags, against)
        if isinstance(summary, Absent) and summary.why != "not here" and against:
            # One that this pair cannot take would hide the others.
            alone = [(label, self.run(self.base, "MMMU", flags, (label,))) for label in against]
            rows = [("off", alone[0][1], 0)] + [(label.split("/")[1], one, -1) for label, one in alone]
        else:
            rows = [("off", summary, 0)] + [(name, summary, None) for name in known]
        for name, one, schedule in rows:
            place = schedule if schedule is not None else _place(one, name)
            label = "off" if name == "off" else KNOWN.get(name, name)
            table.add(label, _method(one, place))
        table.notes += [f"{KNOWN.get(name, name)}: {why}" for name, why in refused.items()]
        return table

    # Tables 4 to 9: means over sets, and the time of all answers.
    def over_rows(self, number, title, about, rows):
        table = Table(number, title, f"{about} {self.base.name}; means over {', '.join(MEAN)} (those that are here), with the time of all answers and its "
                      "ratio to off of the same calls.", ["accuracy", *MEAN, "time"])
        for label, place, flags, against in rows:
            if isinstance(flags, Absent):
                table.add(label, [flags] * (len(MEAN) + 2))
                continue
            found = [self.run(self.base, name, flags, against) for name in MEAN]
            cells = [value(summary, place, name) for summary, name in zip(found, MEAN)]
            table.add(label, [mean_of(cells), *cells, seconds(found, place)])
        return table

    def beside(self, flags):
        """Off and the strategies that act at a layer, all of one call."""
        known, _ = self.strategies()
        names = [name for name in AT_LAYERS if name in known]
        against = tuple(names[1:])
        return [("off", 0, flags, against)] + [(KNOWN.get(name, name), 1 + i, flags, against) for i, name in enumerate(names)]

    def table_4(self):
        shape = self.shape()
        flags = encoder_flags(shape.vit, shape.tokens - round(shape.tokens * KEPT))
        crops = [name for name in self.strategies()[0] if "crop" in name]
        rows = [(KNOWN.get(name, name), 1, ("--merge", self.merge, "--strategy", name), ()) for name in crops]
        table = self.over_rows("4", "Table 4: strategies in the encoder", "Half of the tokens (361 of 729, or this share) after the encoder; the decoder "
                               "merges nothing.", self.beside(flags) + rows)
        if not crops:
            table.notes.append("CLIP, CLIPSeg: this program has no strategy of that name")
        return table

    def table_5(self):
        shape = self.shape()
        deeper = decoder_flags((shape.llm,), DEEPER)
        counts = [round(shape.tokens * kept / 729) for kept in (576, 425, 361, 289, 225, 169)]
        rows = [(f"{kept} of {shape.tokens}", 1, encoder_flags(shape.vit, shape.tokens - kept) + deeper, ()) for kept in counts]
        return self.over_rows("5", "Table 5: tokens after the encoder", f"Layers {_braces(shape.vit)}; the decoder keeps {DEEPER:.0%} at layer {shape.llm}.",
                              [("off", 0, *rows[0][2:]), *rows])

    def table_6(self):
        shape = self.shape()
        removed = shape.tokens - round(shape.tokens * KEPT)
        rows = []
        for layers in dict.fromkeys(((13,), (5,), (2, 3), (7, 8), (2, 3, 4, 5), (5, 6, 7, 8), (7, 8, 9, 10), shape.vit)):
            inside = layers[-1] < shape.tower_layers
            flags = encoder_flags(layers, removed) + decoder_flags((shape.llm,), DEEPER) if inside else Absent("no such layer")
            rows.append((_braces(layers), 1, flags, ()))
        return self.over_rows("6", "Table 6: layers of the encoder", f"The same {removed} tokens removed at other layers, counted from 0; the decoder keeps "
                              f"{DEEPER:.0%} at layer {shape.llm}.", rows)

    def table_7(self):
        shape = self.shape()
        flags = decoder_flags((shape.llm,), DEEPER)
        fastv = (*flags, "--strategy", "prune", "--score", "last-token")
        return self.over_rows("7", "Table 7: strategies in the decoder", f"The decoder keeps {DEEPER:.0%} at layer {shape.llm}; the encoder merges nothing.",
                              [*self.beside(flags), ("FastV (prune, last token)", 1, fastv, ())])

    def table_8(self):
        shape = self.shape()
        half = round(shape.tokens * KEPT)
        first = encoder_flags(shape.vit, shape.tokens - half)
        rows = [(f"{half} (all)", 1, first, ())]
        rows += [(f"{round(half * kept / 361)} of {half}", 1, first + decoder_flags((shape.llm,), kept / 361), ()) for kept in (300, 253, 225, 200, 169)]
        return self.over_rows("8", "Table 8: tokens in the decoder", f"{half} tokens after the encoder; the decoder keeps fewer from layer {shape.llm} on.", rows)

    def table_9(self):
        shape = self.shape()
        first = encoder_flags(shape.vit, shape.tokens - round(shape.tokens * KEPT))
        rows = []
        for layers in dict.fromkeys(((2, 3), (5,), (8,), (10,), (5, 6), (8, 9), (shape.llm,))):
            inside = layers[-1] < shape.text_layers
            rows.append((_braces(layers), 1, first + decoder_flags(layers, DEEPER) if inside else Absent("no such layer"), ()))
        return self.over_rows("9", "Table 9: layers of the decoder", f"{DEEPER:.0%} kept at other layers, counted from 0.", rows)

    # Figures.
    def figure_1(self):
        found = [self.compared(self.base, name) for name in FIGURE_1]
        return self._figure("figure-1.svg", "Figure 1: accuracy, memory, throughput", found, FIGURE_1, bars=True)

    def figure_4(self):
        found, names = [], []
        for name in FIGURE_4:
            for pair in self.pairs:
                found.append(self.compared(pair, name, BUDGETS))
                names.append(name)
        return self._figure("figure-4.svg", "Figure 4: accuracy and memory against throughput", found, names)

    def figure_5(self):
        title = "Figure 5: a large model that merges against a smaller one"
        if self.small is None:
            return title, None, ["no smaller model; give --small NAME=TEXT,MMPROJ"]
        found = [self.compared(pair, name, BUDGETS) for name in FIGURE_5 for pair in (self.base, self.small)]
        return self._figure("figure-5.svg", title, found, [name for name in FIGURE_5 for _ in range(2)])

    def _figure(self, file, title, found, names, bars=False):
        missing = {name: summary.why for summary, name in zip(found, names) if isinstance(summary, Absent)}
        drawn = self.program.draw(found, file, bars)
        return title, file if drawn else None, [f"{name}: {why}" for name, why in missing.items()]


def _count(summary, name):
    cell = value(summary, 0, name)
    return cell if isinstance(cell, Absent) else str(cell.n)


def _braces(layers):
    return "{" + ", ".join(map(str, layers)) + "}"


def _place(summary, name):
    """Number of the row of a strategy: each has one, and off comes first."""
    if isinstance(summary, Absent):
        return 0
    rows = [row for row in summary["rows"] if row["category"] == ""]
    return next((i for i, row in enumerate(rows) if i and row["strategy"] == name), None)


def _method(summary, place):
    if isinstance(summary, Absent):
        return [summary] * 4
    rows = [row for row in summary["rows"] if row["category"] == ""]
    if place is None:
        return [Absent("-")] * 4
    place %= len(rows)
    row = rows[place]
    return [value(summary, place, "MMMU"), speed(summary, place), memory(summary, place), f"{row['visual_tokens']:.0f}, {row['visual_tokens_deepest']:.0f}"]


TABLES = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10")
FIGURES = ("1", "4", "5")
EVERYTHING = tuple(f"table-{number}" for number in TABLES) + tuple(f"figure-{number}" for number in FIGURES)
