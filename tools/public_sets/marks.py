"""Marks of answers by the rules of public sets, apart from src/eval/metric: the golden values of its tests.

Every rule is written from the set's publication and the public evaluators' behaviour (lmms-eval, VLMEvalKit), not
from the program: other control flow, other data structures, exact fractions where marks are counted.
"""

import math
import re
import string
from collections import Counter
from fractions import Fraction

DIGITS = dict(zip("none zero one two three four five six seven eight nine ten".split(), ["0", *map(str, range(11))]))


def distance(a, b):
    """Levenshtein's, by the full table."""
    table = [[i + j if i * j == 0 else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
    return table[-1][-1]


def exact(case):
    def plain(text):
        return re.sub(r"\.$", "", text.strip().lower()).rstrip()
    return float(any(plain(right) == plain(case["answer"]) for right in case["answers"]))


def bare(text):
    """Lower case, no punctuation but in numbers."""
    text = re.sub(r"(?<![0-9])[.,]|[.,](?![0-9])", "", text.lower())
    text = re.sub(r"(?<!\s)(?<!^)-|-(?![0-9])", "", text)
    return " ".join(text.translate(str.maketrans("", "", string.punctuation.translate(str.maketrans("", "", ".,-")))).split())


def words(case):
    return float(any(bare(right) == bare(case["answer"]) for right in case["answers"]))


def option(answer, options):
    """The letter that an answer means, or None."""
    letters = string.ascii_uppercase[:len(options)] if options else "ABCDEFGH"
    answer = answer.replace("*", "")
    told = re.sub(r"\.$", "", answer.strip().lower()).rstrip()
    for letter, text in zip(letters, options):
        if re.sub(r"\.$", "", text.strip().lower()).rstrip() == told:
            return letter
    tries = [
        (r"(?:answer|option|choice)(?: +is)? *:? *\(?([A-Z])(?![A-Za-z'])", re.I),
        (r"^ *\(?([A-Za-z])(?![^\s).:,])", 0),
        (r"\(([A-Z])\)", 0),
        (r"(?<![A-Za-z'])([A-Z])\W*$", 0),
    ]
    for pattern, flags in tries:
        found = re.search(pattern, answer, flags)
        # Words are taken in either case, the letter behind them as a capital only.
        if found and (not flags or found[1].isupper()) and found[1].upper() in letters:
            return found[1].upper()
    said = bare(answer).split()
    named = [letter for letter, text in zip(letters, options)
             if bare(text) and f" {bare(text)} " in f" {' '.join(said)} "]
    return named[0] if len(named) == 1 and len(said) >= 3 else None


def choice(case):
    def right(text):
        letter = option(text, case["options"])
        return bare(text) == bare(case["answer"]) if letter is None else letter == option(case["answer"], case["options"])
    return float(any(map(right, case["answers"])))


def anls(case):
    best = Fraction(0)
    for right in case["answers"]:
        a, b = (" ".join(text.lower().split()) for text in (right, case["answer"]))
        longer = max(len(a), len(b))
        best = max(best, 1 - Fraction(distance(a, b), longer) if longer else Fraction(1))
    return float(best) if best >= Fraction(1, 2) else 0.0


def number(text):
    text = text.strip().rstrip(".").replace(",", "")
    share = text.endswith("%")
    try:
        value = float(text.rstrip("%").strip() if share else text.lstrip("$"))
    except ValueError:
        return None
    return value / 100 if share else value


def relaxed(case):
    def right(text):
        wanted, said = number(text), number(case["answer"])
        if wanted is None or said is None:
            return re.sub(r"\.$", "", text.strip().lower()) == re.sub(r"\.$", "", case["answer"].strip().lower())
        return said == wanted if wanted == 0 else abs(said - wanted) <= 0.05 * abs(wanted)
    return float(any(map(right, case["answers"])))


def solved(case):
    """MathVista."""
    right, answer = case["answers"][0], case["answer"]
    if case["options"]:
        letters = string.ascii_uppercase[:len(case["options"])]
        near = min(zip(letters, case["options"]), key=lambda pair: distance(answer, pair[1]))[0]
        return float((option(answer, case["options"]) or near) == option(right, case["options"]))
    try:
        wanted = float(right)
    except ValueError:
        return exact(case)
    found = re.findall(r"-?(?:\d+\.\d+|\d+|\.\d+)(?:[eE][-+]?\d+)?", answer.replace(",", ""))
    if not found:
        return 0.0
    said = float(found[-1])
    if case["precision"] is not None:
        return float(round(said, case["precision"]) == wanted)
    return float((math.trunc(said) if "." not in right else said) == wanted)


def first_yes_no(text):
    for word in re.findall(r"[^\W_]+", text.lower()):
        if word in ("yes", "true", "no", "false"):
            return word in ("yes", "true")
    return None


def yes_no(case):
    said = first_yes_no(case["answer"])
    return float(said is not None and any(first_yes_no(right) == said for right in case["answers"]))


def written(text):
    """An answer as VQA's server writes it."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").replace("\n", " ").strip()
    joined = bool(re.search(r"\d,\d", text))
    out = text
    for mark in ";/[]\"{}()=+\\_-><@`,?!":
        spaced = re.search(rf"(?:^|.)(?:{re.escape(mark)} | {re.escape(mark)})", text)
        out = out.replace(mark, "" if spaced or joined else " ")
    out = re.sub(r"\.(?!\d)", "", out)
    kept = [DIGITS.get(word, word) for word in out.split() if word not in ("a", "an", "the")]
    known = {"dont": "don't", "isnt": "isn't", "cant": "can't", "its": "its", "whats": "what's"}
    return " ".join(known.get(word, word) for word in kept)


def vqa(case):
    said = written(case["answer"])
    people = [written(right) for right in case["answers"]]
    if len(people) == 1:
        return float(people[0] == said)
    total = sum(min(Fraction(1), Fraction(sum(other == said for j, other in enumerate(people) if j != i), 3))
                for i in range(len(people)))
    return float(total / len(people))


def normal(text):
    try:
        return [round(float(text.replace(",", "")), 2)]
    except ValueError:
        text = text.strip().lower()
        return [" " + text, text + " "] if len(text) == 1 else [text]


def open_ended(case):
    """MMMU's open questions."""
    lines = case["answer"].strip().strip(".").lower().split("\n")
    closing = []
    for i, line in enumerate(lines):
        keys = ["could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result "]
        keys += ["="] if i == len(lines) - 1 else []
        tails = [line.split(key)[-1].strip() for key in keys if key in line]
        tails = sorted((tail for tail in tails if tail), key=len)
        if tails and tails[0] not in list(":,.!?;'"):
            closing.append(tails[0])
    closing = closing or [lines[0] if len(lines) == 1 else "\n".join(lines)]
    found = [value for tail in closing for value in normal(tail)]
    for tail in closing:
        for text in re.findall(r"-?\b\d{1,3}(?:,\d{3})+\b", tail):
            found += normal(text)
        for text in re.findall(r"-?\d+(?:\.\d+)?[eE][+-]?\d+", tail):
            found += normal(text)
        for text in re.findall(r"-?(?:\d+\.\d+|\.\d+|\d+\b)(?![eE][+-]?\d+)(?![,\d])", tail):
            found += normal(text)
    for right in case["answers"]:
        for wanted in normal(right):
            for said in found:
                if isinstance(said, str) and isinstance(wanted, str) and wanted in said:
                    return 1.0
                if isinstance(said, float) and said == wanted:
                    return 1.0
    return 0.0


def caption_words(text):
    """Words as the Penn Treebank's tokenizer leaves them after COCO's list of marks."""
    text = text.lower().replace("’", "'").replace("--", " ")
    text = re.sub(r"[.?!,:;\"`()\[\]{}“”‘…]", " ", text)
    found = []
    for word in text.split():
        if not re.search(r"[^-']", word):
            continue
        match = re.fullmatch(r"(.+)(n't)", word) or re.fullmatch(r"(.+?)('[^']+)", word)
        found += [match[1], match[2]] if match else [word.strip("'")]
    return found


def runs(text):
    words = caption_words(text)
    return Counter(tuple(words[i:i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))


def cider(people, captions):
    """CIDEr-D of each caption against the captions of people for its picture."""
    holders = Counter(run for own in people for run in {run for text in own for run in runs(text)})
    total = math.log(len(people))

    def weighted(text):
        return {run: count * (total - math.log(max(1, holders[run]))) for run, count in runs(text).items()}

    marks = []
    for own, caption in zip(people, captions):
        said, sum_ = weighted(caption), 0.0
        for text in own:
            wanted = weighted(text)
            length = sum(c for run, c in runs(caption).items() if len(run) == 2) - sum(
                c for run, c in runs(text).items() if len(run) == 2)
            for n in range(1, 5):
                a = {run: w for run, w in said.items() if len(run) == n}
                b = {run: w for run, w in wanted.items() if len(run) == n}
                norm = math.sqrt(sum(w * w for w in a.values())) * math.sqrt(sum(w * w for w in b.values()))
                if norm:
                    product = math.fsum(min(w, b[run]) * b[run] for run, w in a.items() if run in b)
                    sum_ += product / norm * math.exp(-length ** 2 / 72) / 4
        marks.append(10 * sum_ / len(own))
    return marks


RULES = {"exact": exact, "words": words, "choice": choice, "open": open_ended, "anls": anls, "relaxed": relaxed,
         "math": solved, "yes_no": yes_no, "vqa": vqa}

ANIMALS = ["A cat", "a dog", "two birds", "no animal"]
PEOPLE = ["grey"] * 3 + ["gray"] * 2 + ["the grey one", "silver", "grey.", "dark grey", "a grey"]
# (metric, right answers, options, decimals, answers)
CASES = [
    ("exact", ["Two"], [], None, [" two. ", "two birds", "TWO", "", "two.."]),
    ("exact", ["grey", "gray"], [], None, ["Gray", "grey ", "green"]),
    ("words", ["traffic light"], [], None, ["Traffic light.", "traffic-light", "traffic  light!", "light"]),
    ("words", ["1.5"], [], None, ["1.5.", "15", "1,5", "\"1.5\""]),
    ("words", ["t-shirt"], [], None, ["tshirt", "T-Shirt", "t shirt"]),
    ("words", ["-3"], [], None, ["-3", "3", "- 3"]),
    ("choice", ["B"], ANIMALS, None, [
        "B", "b. a dog", "(B)", "The answer is B.", "Answer: (B) since it barks", "a dog", "C", "G", "", "I see (B) here",
        "**B**", "**B.** a dog", "B) a dog", "B: a dog", "Option B is right", "The correct option is (C)", "It must be B",
        "It must be B.", "I would say it shows a dog there", "it shows a dog and two birds there", "I", "b", "A dog",
        "The animal is a dog, so the answer is A", "B\n\nbecause of its ears", "answer is a dog", "no animal", "Both"]),
    ("choice", ["A"], ANIMALS, None, ["A cat", "a cat.", "A", "A dog", "A cat sits on a chair", "not a cat"]),
    ("choice", ["a dog"], ANIMALS, None, ["B", "a dog", "(A)"]),
    ("choice", ["3"], ["4", "3", "1"], None, ["B", "3", "(B) 3", "A", "there are 3 of them"]),
    ("choice", ["B"], [], None, ["B", "b", "(B)", "B. two", "I think it is B", "C", "The answer: B", "two"]),
    ("choice", ["Downhill"], [], None, ["Downhill", "downhill.", "uphill", "A"]),
    ("open", ["24/7"], [], None, ["24/7", "The shop is open 24/7.", "so it is 247", "all day"]),
    ("open", ["12.5"], [], None, ["12.5", "The result is 12.50", "x = 12.5", "It is 12.54", "1,2.5", "about 12.496 volts"]),
    ("open", ["1,200", "1.2k"], [], None, ["1200", "The answer is 1,200 dollars", "final 1.2k", "1.2e3", "so 120"]),
    ("open", ["b"], [], None, ["b", "The answer is b then", "blue", "it is a or b"]),
    ("open", ["red light"], [], None, ["Thus the answer is the red light above", "first red\nso it is blue", "red"]),
    ("anls", ["hello world"], [], None, ["Hello  World", "hello word", "hello", "world", ""]),
    ("anls", ["abcd"], [], None, ["abce", "abxy", "axyz", "abcdabcd", "abcdabcda"]),
    ("anls", ["x", "abcd"], [], None, ["abcd", "x", "y"]),
    ("relaxed", ["100"], [], None, ["104.9", "105", "105.1", "95", "94.9", "100%", "a hundred", "$100", "100."]),
    ("relaxed", ["1,000"], [], None, ["$1000", "1000", "1050.5", "1e3"]),
    ("relaxed", ["0.5"], [], None, ["50%", "50 %", "0.52", "0.53", "50"]),
    ("relaxed", ["-4"], [], None, ["-4.1", "4", "-3.7"]),
    ("relaxed", ["0"], [], None, ["0", "0.0", "0.01", "none"]),
    ("relaxed", ["Blue"], [], None, ["blue.", "blue bar", "BLUE"]),
    ("math", ["8/11"], ["3/11", "8/11", "6/11"], None, ["B", "The answer is (B) 8/11", "8/11", "8/12", "C", "it is 8 over 11"]),
    ("math", ["14"], [], 0, ["14", "The number is 14.", "14.4", "first 3 then 14", "15", "none", "1,4"]),
    ("math", ["1.2"], [], 1, ["1.2", "1.24", "1.25001", "about 1.17 m", "1.1"]),
    ("math", ["1.45"], [], 2, ["$1.45", "1.5", "1.449"]),
    ("math", ["[2007, 2008]"], [], None, ["[2007, 2008]", "2007"]),
    ("yes_no", ["Yes"], [], None, ["yes, it is", "Yes.", "no", "It is so: yes", "true", "Nothing known", "YES there is no other"]),
    ("yes_no", ["No"], [], None, ["no", "It is not there: no.", "Not at all", "false"]),
    ("vqa", ["a cat"], [], None, ["Cat", "the cat.", "cats"]),
    ("vqa", ["dog"], [], None, ["cat"]),
    ("vqa", ["two"], [], None, ["2", "Two.", "to"]),
    ("vqa", ["don't walk"], [], None, ["dont walk", "Don't walk!", "walk"]),
    ("vqa", ["10.5"], [], None, ["10.5", "10.5.", "105"]),
    ("vqa", ["black/white"], [], None, ["black white", "black/white", "black / white"]),
    ("vqa", PEOPLE, [], None, ["grey", "Gray", "silver", "the grey", "dark grey", "black"]),
    ("vqa", ["yes"] * 2 + ["no"] * 8, [], None, ["yes", "no"]),
]
CAPTIONS = [
    (["A dog's ball lies in the grass.", "A red ball on a lawn", "there is a ball in green grass"], "A red ball lies in the grass."),
    (["A man rides a bike down the street.", "A man on a bicycle", "someone is riding a bike"], "A man rides a bike."),
    (["Two children don't look at the camera.", "two kids playing", "Children playing with a ball"], "two children playing with a red ball"),
    (["A t-shirt with the word \"stop\".", "a shirt that says stop"], "A cat sleeps."),
    (["a train stands in the station", "The train is in a station, waiting."], "a train stands in the station"),
]


def golden():
    cases = []
    for metric, answers, options, precision, given in CASES:
        for answer in given:
            case = {"metric": metric, "answers": answers, "options": options, "precision": precision, "answer": answer}
            cases.append(case | {"mark": RULES[metric](case)})
    people, captions = [own for own, _ in CAPTIONS], [said for _, said in CAPTIONS]
    return cases, {"people": people, "captions": captions, "marks": cider(people, captions)}
