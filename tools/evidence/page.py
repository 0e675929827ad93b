"""The page: tables from the committed results, words from a file beside them."""

import re

# Heading with the paper's table, and what the rows are.
_TABLES = {
    "presets": ("Presets", "`balanced`, kind by kind, and `auto` beside it."),
    "cures": ("Positions and sizes", "The paper's budget (361 and then 253 of 729 tokens, or these shares of them), by `bipartite`."),
    "rules": ("Rules that choose the tokens", "The paper's budget by other strategies, at own positions, sizes counted wherever the strategy keeps them."),
    "shares": ("How much goes", "`balanced` and other strategies at its layers, by the share of the tokens that reaches the deepest layers; the first rows are `balanced`."),
    "schedules": ("Kinds of question", "Off against the schedule the pair recommends, kind by kind."),
    "budget": ("The paper's budget in both halves",
               "361 and then 253 of 729 tokens, or these shares of them, at the layers of the recommended schedule. "
               "`prumerge` and `downsample` act once: they leave the last number before the decoder."),
    "encoder budgets": ("How many tokens the encoder keeps (the paper's Table 5)",
                        "Merging in the encoder alone, in equal steps at the layers of the recommended schedule."),
    "encoder layers": ("Encoder layers that merge (Table 6)",
                       "The same number of tokens removed at other layers, counted from 0."),
    "decoder budgets": ("How many tokens the decoder keeps (Table 8)",
                        "Merging in the decoder alone: the share of the encoder's tokens that is kept."),
    "decoder layers": ("Decoder layers that merge (Table 9)", "Half of the tokens kept, at other layers."),
    "encoder strategies": ("Strategies in the encoder (Table 4)", "Half of the tokens, by other rules, at the same layers."),
    "decoder strategies": ("Strategies in the decoder (Table 7)", "Half of the tokens, by other rules, at the same layer."),
    "strategies": ("Strategies in both halves (Table 3)", "The recommended schedule's budget by every rule."),
}


def page(results, words="", command=""):
    """Markdown.  `words` has a section under `## TABLE` for what stands below a table, and what
    stands above all tables before the first of them."""
    said = _sections(words)
    lines = [said.get("", "# Merging, measured on a pair").strip(), ""]
    if command:
        lines += ["```sh", command.strip(), "```", ""]
    lines += [
        f"Made by {results.get('version', 'illava')} from the results of {len(results['order'])} runs of `illava eval`. "
        "Accuracy and its difference against merging off in points, with 95 % bootstrap intervals, the difference "
        "question by question. Tokens: after the encoder, in the deepest decoder layers. Faster: medians of off over "
        "medians of the row, of the same answers in the same call. KV: the cache that is allocated, off and then the "
        "row.", ""]
    for table, (heading, about) in _TABLES.items():
        runs = [results["runs"][key] for key in results["order"] if results["runs"][key]["table"] == table]
        if not runs:
            continue
        lines += [f"## {heading}", "", about, ""]
        for name in runs[0]["sets"]:
            lines += _table(table, runs, name, several=len(runs[0]["sets"]) > 1)
        if table in said:
            lines += [said[table].strip(), ""]
    if "end" in said:
        lines += [said["end"].strip(), ""]
    return "\n".join(lines)


def _sections(words):
    found, at = {"": []}, ""
    for line in words.splitlines():
        match = re.match(r"## (.+)$", line)
        if match and (match[1] in _TABLES or match[1] == "end"):
            at = match[1]
            found[at] = []
        else:
            found[at].append(line)
    return {name: "\n".join(lines) for name, lines in found.items() if "".join(lines).strip()}


def _table(table, runs, name, several):
    metric, first = runs[0]["sets"][name]["metric"], _rows(runs[0], name)
    what = f"{name.capitalize()} questions, {first[0]['questions']}" if several else f"{first[0]['questions']} questions"
    if table == "presets":
        return _kinds(runs[0]["sets"][name]["rows"], f"{what}, {metric}") + _compared(runs, name, what, metric)
    if table == "schedules":
        return _kinds(runs[0]["sets"][name]["rows"], f"{what}, {metric}")
    return _compared(runs, name, what, metric)


def _compared(runs, name, what, metric):
    first = _rows(runs[0], name)
    lines = [f"| {what}, {metric} | accuracy | against off | tokens | encoder faster | prefill faster | all faster | KV |",
             "|---|---|---|---|---|---|---|---|"]
    lines.append(_line("off", first[0], None))
    for run in runs:
        off, *others = _rows(run, name)
        for place, row in enumerate(others):
            own = "merge" if run["table"].endswith("strategies") and len(others) > 1 else run["name"]
            label = own if place == 0 else run["strategies"][place - 1]
            lines.append(_line(label, row, off))
    failed = sum(row["failures"] for run in runs for row in _rows(run, name))
    if failed:
        lines += ["", f"{failed} answers failed and count in no accuracy."]
    return [*lines, ""]


def _rows(run, name):
    return [row for row in run["sets"][name]["rows"] if row["category"] == ""]


def _points(interval, sign=""):
    mean, low, high = (f"{100 * value:{sign}.1f}" for value in interval)
    return f"{mean} ({low} to {high})"


def _line(label, row, off):
    tokens = f"{row['visual_tokens']:.0f}, {row['visual_tokens_deepest']:.0f}"
    if off is None:
        return f"| {label} | {_points(row['accuracy'])} | | {tokens} | | | | {_bytes(row['kv_bytes'])} |"
    faster = [f"{off[part] / row[part]:.2f} x" if row[part] > 0 else "" for part in ("encoder_ms", "prefill_ms", "total_ms")]
    kv = f"{_bytes(off['kv_bytes'])}, {_bytes(row['kv_bytes'])}"
    return " | ".join([f"| {label}", _points(row["accuracy"]), _points(row["difference"], "+"), tokens, *faster, kv]) + " |"


def _bytes(count):
    return f"{count / 1024:.0f} KiB" if count < 10 * 1024 ** 2 else f"{count / 1024 ** 2:.0f} MiB"


def _kinds(rows, title):
    names = list(dict.fromkeys(row["schedule"] for row in rows))
    lines = [f"| {title} | questions | off | {names[1]} | difference |", "|---|---|---|---|---|"]
    for category in dict.fromkeys(row["category"] for row in rows):
        off, own = ([row for row in rows if row["category"] == category][place] for place in (0, 1))
        lines.append(f"| {category or '**all**'} | {off['questions']:.0f} | {_points(off['accuracy'])} | "
                     f"{_points(own['accuracy'])} | {_points(own['difference'], '+')} |")
    return [*lines, ""]
