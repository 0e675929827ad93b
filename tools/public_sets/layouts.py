"""Public sets: the columns they are published in, three or so questions each of our own, and what a reader has to see.

Columns, types and splits are those of the files that lmms-eval loads (its task yaml and utils.py) or that VLMEvalKit
loads (.tsv). Questions, answers and pictures are ours.
"""

import base64
import io
from dataclasses import dataclass, field

import pyarrow as pa
from PIL import Image

# Hugging Face's picture in a parquet file.
PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
TEXTS = pa.list_(pa.string())
COLOURS = {"red": (200, 30, 30), "green": (20, 160, 60), "blue": (30, 60, 200)}


def png(colour):
    out = io.BytesIO()
    Image.new("RGB", (16, 16), COLOURS[colour]).save(out, "PNG")
    return out.getvalue()


def picture(colour):
    return {"bytes": png(colour), "path": f"{colour}.png"}


def b64(colour):
    return base64.b64encode(png(colour)).decode()


@dataclass
class Layout:
    """One published file and what is to be read from it."""
    path: str           # below the fixtures; its first folder is what --set gets, or the file itself
    metric: str         # names joined by +
    rows: list
    # One dict for each question: what differs from the row is said.
    expect: list
    types: dict = field(default_factory=dict)   # of columns that pyarrow would guess otherwise
    # Videos: names of folders of frames, beside the file.
    videos: tuple = ()
    other: dict = field(default_factory=dict)   # further files beside it: rows of another split, or text
    # The set that --set gets, if it is not the file's first folder.
    root: str | None = None


def item(question, answers, options=(), category="", id=None, pictures=1, videos=0, **more):
    return {"question": question, "answers": answers, "options": list(options), "category": category, "id": id,
            "pictures": pictures, "videos": videos} | more


COLOUR, NAMES = "Which colour is it?", ["red", "green", "blue"]


LAYOUTS = [
    Layout("MMMU/Art_Theory/validation-00000-of-00001.parquet", "choice+open", [
        {"id": "validation_Art_Theory_1", "question": "Which of them is <image 1>?", "options": "['red', \"the sea's blue\"]", "explanation": "",
         "image_1": picture("red"), "image_2": None, "img_type": "['Photographs']", "answer": "A", "topic_difficulty": "Easy",
         "question_type": "multiple-choice", "subfield": "Art"},
        {"id": "validation_Art_Theory_2", "question": "How many of <image 1> and <image 2> are red?", "options": "[]", "explanation": "",
         "image_1": picture("red"), "image_2": picture("blue"), "img_type": "['Photographs']", "answer": "['1', 'one']",
         "topic_difficulty": "Easy", "question_type": "open", "subfield": "Art"},
    ], [item("Which of them is <image 1>?", ["A"], ["red", "the sea's blue"], "Art_Theory", "validation_Art_Theory_1"),
        item("How many of <image 1> and <image 2> are red?", ["1", "one"], [], "Art_Theory", "validation_Art_Theory_2", 2, metric="open")],
        {"image_1": PICTURE, "image_2": PICTURE},
        other={"MMMU/Art_Theory/test-00000-of-00001.parquet": [
            {"id": "test_Art_Theory_1", "question": "Which?", "options": "['red']", "image_1": picture("red"), "answer": "?",
             "question_type": "multiple-choice", "subfield": "Art"}]}),
    Layout("MMBench/en/dev-00000-of-00001.parquet", "choice", [
        {"index": 241, "question": COLOUR, "hint": "nan", "answer": "B", "A": "red", "B": "green", "C": "nan", "D": "nan", "category": "attribute",
         "image": picture("green"), "source": "ours", "L2-category": "perception", "comment": "nan", "split": "dev"},
        {"index": 252, "question": COLOUR, "hint": "It is no fruit.", "answer": "C", "A": "red", "B": "green", "C": "blue", "D": "grey", "category": "attribute",
         "image": picture("blue"), "source": "ours", "L2-category": "perception", "comment": "nan", "split": "dev"},
    ], [item(COLOUR, ["B"], NAMES[:2], "attribute", "241"),
        item("It is no fruit.\n" + COLOUR, ["C"], [*NAMES, "grey"], "attribute", "252")], {"image": PICTURE}),
    Layout("MMStar/val-00000-of-00001.parquet", "choice", [
        {"index": 0, "question": "Which colour is it?\nOptions: A: red, B: green", "image": picture("red"), "answer": "A", "category": "coarse perception",
         "l2_category": "image scene and topic", "meta_info": {"source": "ours", "split": "val", "image_path": "a.png"}},
    ], [item("Which colour is it?\nOptions: A: red, B: green", ["A"], [], "coarse perception", "0")], {"image": PICTURE}),
    Layout("MME/data/test-00000-of-00001.parquet", "yes_no", [
        {"question_id": f"color/{name}.png", "image": picture(name), "question": f"Is it {other}? Please answer yes or no.",
         "answer": "Yes" if name == other else "No", "category": "color"} for name in ("red", "blue") for other in ("red", "blue")
    ], [item(f"Is it {other}? Please answer yes or no.", ["Yes" if name == other else "No"], [], "color", f"color/{name}.png#{2 * i + j}",
             group=f"color/{name}.png") for i, name in enumerate(("red", "blue")) for j, other in enumerate(("red", "blue"))], {"image": PICTURE}),
    Layout("POPE/data/test-00000-of-00001.parquet", "yes_no", [
        {"id": "0", "question_id": "1", "question": "Is there a dog in the image?", "answer": "no", "image_source": "ours_1", "image": picture("red"), "category": "adversarial"},
        {"id": "1", "question_id": "1", "question": "Is there a colour in the image?", "answer": "yes", "image_source": "ours_1", "image": picture("red"), "category": "popular"},
    ], [item("Is there a dog in the image?", ["no"], [], "adversarial", "0#0"),
        item("Is there a colour in the image?", ["yes"], [], "popular", "1#1")], {"image": PICTURE}),
    Layout("ScienceQA/ScienceQA-FULL/test-00000-of-00001.parquet", "choice", [
        {"image": picture("green"), "question": COLOUR, "choices": NAMES, "answer": 1, "hint": "Leaves look so.", "task": "closed choice", "grade": "grade2",
         "subject": "natural science", "topic": "physics", "category": "Light", "skill": "s", "lecture": "", "solution": ""},
        {"image": None, "question": "Which is a number?", "choices": ["2", "1"], "answer": 0, "hint": "", "task": "closed choice", "grade": "grade2",
         "subject": "natural science", "topic": "physics", "category": "Light", "skill": "s", "lecture": "", "solution": ""},
    ], [item("Leaves look so.\n" + COLOUR, ["B"], NAMES, "Light"),
        item("Which is a number?", ["A"], ["2", "1"], "Light", pictures=0)], {"image": PICTURE, "choices": TEXTS, "answer": pa.int8()}),
    Layout("ai2d/data/test-00000-of-00001.parquet", "choice", [
        {"question": "How many things are there?", "options": ["3", "2", "1", "0"], "answer": "2", "image": picture("red")},
    ], [item("How many things are there?", ["C"], ["3", "2", "1", "0"])], {"image": PICTURE, "options": TEXTS}),
    Layout("ChartQA/data/test-00000-of-00001.parquet", "relaxed", [
        {"type": "human_test", "question": "How high is the bar?", "answer": "14", "image": picture("red")},
        {"type": "augmented_test", "question": "Is the bar red?", "answer": "Yes", "image": picture("red")},
    ], [item("How high is the bar?", ["14"], [], "human_test"), item("Is the bar red?", ["Yes"], [], "augmented_test")], {"image": PICTURE}),
    Layout("DocVQA/DocVQA/validation-00000-of-00001.parquet", "anls", [
        {"questionId": "49153", "question": "Which word is it?", "question_types": ["handwritten"], "image": picture("red"), "docId": 14465,
         "ucsf_document_id": "x", "ucsf_document_page_no": "4", "answers": ["Red", "the red"], "data_split": "val"},
    ], [item("Which word is it?", ["Red", "the red"], [], "", "49153")], {"image": PICTURE},
        other={"DocVQA/DocVQA/test-00000-of-00001.parquet": [
            {"questionId": "57344", "question": "Which?", "question_types": None, "image": picture("red"), "docId": 1, "answers": None, "data_split": "test"}]},
        root="DocVQA/DocVQA"),
    Layout("DocVQA/InfographicVQA/validation-00000-of-00001.parquet", "anls", [
        {"questionId": "98313", "question": "How many are red?", "answers": ["1"], "answer_type": ["single span"], "image": picture("red"),
         "image_url": "none", "operation/reasoning": ["counting"], "ocr": "[]", "data_split": "val"},
    ], [item("How many are red?", ["1"], [], "single span", "98313")], {"image": PICTURE}, root="DocVQA/InfographicVQA"),
    Layout("textvqa/data/validation-00000-of-00003.parquet", "vqa", [
        {"image_id": "003a", "question_id": 34602, "question": "what colour is it?", "question_tokens": ["what"], "image": picture("red"), "image_width": 16,
         "image_height": 16, "answers": ["red"] * 8 + ["dark red", ""], "image_classes": ["Wall"], "set_name": "val", "ocr_tokens": []},
    ], [item("what colour is it?", ["red"] * 8 + ["dark red"], [], "", "34602")], {"image": PICTURE}),
    Layout("VQAv2/data/validation-00000-of-00068.parquet", "vqa", [
        {"question_type": "what color", "multiple_choice_answer": "red", "answers": [{"answer": word, "answer_confidence": "yes", "answer_id": i + 1}
                                                                                    for i, word in enumerate(["red"] * 9 + ["2"])],
         "image_id": 1, "answer_type": "other", "question_id": 1000, "question": "What color is it?", "image": picture("red")},
    ], [item("What color is it?", ["red"] * 9 + ["2"], [], "other", "1000")], {"image": PICTURE}),
    Layout("RealWorldQA/data/test-00000-of-00002.parquet", "choice+words", [
        {"image": picture("green"), "question": "Which light is on?\n\nA. red\nB. green\nPlease answer directly with only the letter of the correct option and nothing else.",
         "answer": "B", "image_path": "0.webp"},
        {"image": picture("red"), "question": "How many lights are on?\nPlease answer directly with a single word or number.", "answer": "1", "image_path": "1.webp"},
    ], [item("Which light is on?\n\nA. red\nB. green\nPlease answer directly with only the letter of the correct option and nothing else.", ["B"]),
        item("How many lights are on?\nPlease answer directly with a single word or number.", ["1"], metric="words")], {"image": PICTURE}),
    Layout("SEED-Bench/data/test-00000-of-00070.parquet", "choice", [
        {"answer": "A", "choice_a": "red", "choice_b": "green", "choice_c": "blue", "choice_d": "grey", "data_id": "1", "data_type": "image", "question": COLOUR,
         "question_id": "101669", "question_type_id": 1, "image": [picture("red")], "segment": None},
        {"answer": "D", "choice_a": "red", "choice_b": "green", "choice_c": "blue", "choice_d": "it changes", "data_id": "v1", "data_type": "video", "question": COLOUR,
         "question_id": "v1-1", "question_type_id": 10, "image": [picture("red"), picture("blue")], "segment": [0, 2]},
    ], [item(COLOUR, ["A"], [*NAMES, "grey"], "image", "101669"), item(COLOUR, ["D"], [*NAMES, "it changes"], "video", "v1-1", 2)],
        {"image": pa.list_(PICTURE), "question_type_id": pa.int16(), "segment": pa.list_(pa.int64())}),
    Layout("MathVista/data/testmini-00000-of-00001.parquet", "math", [
        {"pid": "1", "question": "How long is it?", "image": "images/1.jpg", "decoded_image": picture("red"), "choices": None, "unit": None, "precision": 1.0, "answer": "1.2",
         "question_type": "free_form", "answer_type": "float", "metadata": {"split": "testmini", "language": "english"},
         "query": "Hint: Give a number with one decimal.\nQuestion: How long is it?"},
        {"pid": "2", "question": "Which part is red?", "image": "images/2.jpg", "decoded_image": picture("red"), "choices": ["3/11", "8/11"], "unit": None, "precision": None,
         "answer": "8/11", "question_type": "multi_choice", "answer_type": "text", "metadata": {"split": "testmini", "language": "english"},
         "query": "Hint: Give the letter.\nQuestion: Which part is red?\nChoices:\n(A) 3/11\n(B) 8/11"},
    ], [item("Hint: Give a number with one decimal.\nQuestion: How long is it?", ["1.2"], [], "float", "1", precision=1),
        item("Hint: Give the letter.\nQuestion: Which part is red?\nChoices:\n(A) 3/11\n(B) 8/11", ["8/11"], ["3/11", "8/11"], "text", "2",
             prompt="Hint: Give the letter.\nQuestion: Which part is red?\nChoices:\n(A) 3/11\n(B) 8/11")],
        {"decoded_image": PICTURE, "choices": TEXTS, "precision": pa.float64()}),
    Layout("MUIRBENCH/data/test-00000-of-00001.parquet", "choice", [
        {"idx": "17", "task": "Ordering", "image_relation": "Temporal", "image_type": "Photography", "question": "Is <image> redder than <image>?", "options": ["Yes", "No"],
         "answer": "A", "image_list": [picture("red"), picture("blue")], "counterpart_idx": "18"},
    ], [item("Is <image> redder than <image>?", ["A"], ["Yes", "No"], "Ordering", "17", 2)], {"image_list": pa.list_(PICTURE), "options": TEXTS}),
    Layout("Q-Bench-HF/data/dev-00000-of-00001.parquet", "choice", [
        {"id": 0, "image": picture("red"), "question": "Is it sharp?", "option0": "Yes", "option1": "No", "option2": "N/A", "option3": "N/A", "question_type": 0,
         "question_concern": 3, "correct_choice": "B"},
    ], [item("Is it sharp?", ["B"], ["Yes", "No"], "", "0")], {"image": PICTURE}),
    Layout("Q-Bench2-HF/data/dev-00000-of-00001.parquet", "choice", [
        {"id": 4, "image1": picture("red"), "image2": picture("blue"), "question": "Which is darker?", "option0": "The first", "option1": "The second", "option2": "N/A",
         "option3": "N/A", "question_type": 2, "question_concern": 1, "correct_choice": "A"},
    ], [item("Which is darker?", ["A"], ["The first", "The second"], "", "4", 2)], {"image1": PICTURE, "image2": PICTURE}),
    Layout("MMVet/data/test-00000-of-00001.parquet", "mmvet", [
        {"question_id": "v1_0", "image": picture("red"), "question": "What is x?", "answer": "-1<AND>-5", "image_source": "ours", "capability": "ocr,math"},
    ], [item("What is x?", ["-1<AND>-5"], [], "ocr,math", "v1_0")], {"image": PICTURE}),
    Layout("llava-bench-in-the-wild/data/train-00000-of-00001.parquet", "llava", [
        {"question_id": 0, "question": "What is this?", "image": picture("red"), "image_id": "001.jpg", "category": "conv", "gpt_answer": "A red square.",
         "caption": "A square that is wholly red."},
    ], [item("What is this?", ["A red square."], [], "conv", "0", context="A square that is wholly red.")], {"image": PICTURE}),
    Layout("NoCaps/data/validation-00000-of-00005.parquet", "cider", [
        {"image": picture("red"), "image_coco_url": "none", "image_date_captured": "none", "image_file_name": "a.jpg", "image_id": 0, "annotations_ids": [0, 1],
         "annotations_captions": ["A red square.", "a red field"]},
        {"image": picture("blue"), "image_coco_url": "none", "image_date_captured": "none", "image_file_name": "b.jpg", "image_id": 1, "annotations_ids": [2],
         "annotations_captions": ["A blue square."]},
    ], [item("Describe the picture in one sentence.", ["A red square.", "a red field"], [], "", "0"),
        item("Describe the picture in one sentence.", ["A blue square."], [], "", "1")], {"image": PICTURE}),
    Layout("flickr30k/data/test-00000-of-00009.parquet", "cider", [
        {"image": picture("red"), "caption": ["A red square.", "a red field"], "sentids": ["0", "1"], "img_id": "7", "filename": "7.jpg"},
        {"image": picture("blue"), "caption": ["A blue square."], "sentids": ["2"], "img_id": "8", "filename": "8.jpg"},
    ], [item("Describe the picture in one sentence.", ["A red square.", "a red field"], [], "", "7"),
        item("Describe the picture in one sentence.", ["A blue square."], [], "", "8")], {"image": PICTURE}),
    # Videos.
    Layout("egoschema/Subset/test-00000-of-00001.parquet", "choice", [
        {"question_idx": "12", "question": "What does c do?", "video_idx": "0074f737", "option": ["A. Paints.", "B. Cooks.", "C. Reads.", "D. Runs.", "E. Sleeps."], "answer": "4"},
    ], [item("What does c do?", ["E"], ["Paints.", "Cooks.", "Reads.", "Runs.", "Sleeps."], "", "12", 0, 1)], {"option": TEXTS}, ("videos/0074f737",)),
    Layout("MLVU_dev/data/test-00000-of-00001.parquet", "choice", [
        {"video_name": "3_ego/ego_1.mp4", "duration": 400.5, "question": "What did I hold?\n(A) a cup\n(B) a pen", "candidates": ["a cup", "a pen"], "answer": "B",
         "question_type": "ego", "task_type": "ego"},
        {"video_name": "4_count/count_1.mp4", "duration": 400.5, "question": "How often?\n(A) 2\n(B) 1", "candidates": ["2", "1"], "answer": "A",
         "question_type": "count", "task_type": "count"},
    ], [item("What did I hold?\n(A) a cup\n(B) a pen", ["B"], ["a cup", "a pen"], "ego", pictures=0, videos=1),
        item("How often?\n(A) 2\n(B) 1", ["A"], ["2", "1"], "count", pictures=0, videos=1)], {"candidates": TEXTS},
        ("video/3_ego/ego_1", "video/4_count/count_1")),
    Layout("NExTQA/MC/test-00000-of-00001.parquet", "choice", [
        {"video": 4010069381, "frame_count": 369, "width": 640, "height": 480, "question": "how do the two talk", "answer": 3, "qid": 6, "type": "CH", "a0": "sing",
         "a1": "write", "a2": "wave", "a3": "with hands", "a4": "not at all"},
        {"video": 4010069381, "frame_count": 369, "width": 640, "height": 480, "question": "how many are there", "answer": 0, "qid": 6, "type": "DC", "a0": "3",
         "a1": "0", "a2": "1", "a3": "2", "a4": "5"},
    ], [item("how do the two talk", ["D"], ["sing", "write", "wave", "with hands", "not at all"], "CH", "6", 0, 1),
        item("how many are there", ["A"], ["3", "0", "1", "2", "5"], "DC", "6#1", 0, 1)], {}, ("NExTVideo/1164/4010069381",)),
    Layout("PerceptionTest_Val/mc_question_val/validation-00000-of-00001.parquet", "choice", [
        {"video_name": "video_10909", "question": "Which was shown?", "question_id": "0", "options": ["a cup", "0", "1"], "answer_id": 1, "area": "physics",
         "reasoning": "descriptive", "tag": ["motion"]},
    ], [item("Which was shown?", ["B"], ["a cup", "0", "1"], "physics", "0", 0, 1)], {"options": TEXTS}, ("videos/video_10909",)),
    Layout("Video-MME/videomme/test-00000-of-00001.parquet", "choice", [
        {"video_id": "001", "duration": "short", "domain": "Knowledge", "sub_category": "History", "url": "none", "videoID": "fFjv93ACGo8", "question_id": "001-1",
         "task_type": "Counting Problem", "question": "How many?", "options": ["A. Two.", "B. Three.", "C. One.", "D. None."], "answer": "C"},
    ], [item("How many?", ["C"], ["Two.", "Three.", "One.", "None."], "Counting Problem", "001-1", 0, 1, subtitles=True)], {"options": TEXTS}, ("data/fFjv93ACGo8",),
        {"Video-MME/videomme/subtitle/fFjv93ACGo8.srt": "1\n00:00:00,000 --> 00:00:09,000\n<font color=\"white\" size=\".72c\">One it is.</font>\n"}),
    Layout("VideoChatGPT/Generic/test-00000-of-00001.parquet", "videochatgpt", [
        {"video_name": "v_a", "question": "What happens?", "question_1": "None", "question_2": "None", "answer": "It turns red."},
    ], [item("What happens?", ["It turns red."], [], "generic", pictures=0, videos=1)], {}, ("Test_Videos/v_a",), root="VideoChatGPT/Generic"),
    Layout("VideoChatGPT/Temporal/test-00000-of-00001.parquet", "videochatgpt", [
        {"video_name": "v_a", "question": "What is first?", "question_1": "None", "question_2": "None", "answer": "Blue."},
    ], [item("What is first?", ["Blue."], [], "temporal", pictures=0, videos=1)], {}, ("Test_Videos/v_a",), root="VideoChatGPT/Temporal"),
    Layout("VideoChatGPT/Consistency/test-00000-of-00001.parquet", "videochatgpt", [
        {"video_name": "v_a", "question": "None", "question_1": "Which colour comes last?", "question_2": "None", "answer": "Red."},
        {"video_name": "v_a", "question": "None", "question_1": "None", "question_2": "At the end, which colour is it?", "answer": "Red."},
    ], [item("Which colour comes last?", ["Red."], [], "consistency", pictures=0, videos=1, again="At the end, which colour is it?")], {}, ("Test_Videos/v_a",),
        root="VideoChatGPT/Consistency"),
    Layout("VideoDetailDescription/data/test-00000-of-00001.parquet", "videodc", [
        {"video_name": "v_a", "question": "Describe the video in detail.", "answer": "A field turns from blue to red."},
    ], [item("Describe the video in detail.", ["A field turns from blue to red."], [], "", pictures=0, videos=1)], {}, ("Test_Videos/v_a",)),
    Layout("ActivityNetQA/data/test-00000-of-00001.parquet", "activitynet", [
        {"video_name": "1QIUV7WYKXg", "question": "is the field red", "question_id": "v_1QIUV7WYKXg_3", "answer": "yes", "type": "3"},
        {"video_name": "1QIUV7WYKXg", "question": "what is it", "question_id": "v_1QIUV7WYKXg_4", "answer": "field", "type": "6"},
    ], [item("is the field red?", ["yes"], [], "3", "v_1QIUV7WYKXg_3", 0, 1), item("what is it?", ["field"], [], "6", "v_1QIUV7WYKXg_4", 0, 1)], {},
        ("all_test/v_1QIUV7WYKXg",)),
    # A list of rows as JSON.
    Layout("MVBench/json/action_count.json", "choice", [
        {"video": "video_79.mp4", "question": "How often does it turn?", "candidates": ["3", "4", "2"], "answer": "2"},
    ], [item("How often does it turn?", ["2"], ["3", "4", "2"], "", pictures=0, videos=1)], {}, ("video/perception/videos/video_79",), root="MVBench/json/action_count.json"),
    # VLMEvalKit.
    Layout("MMBench_DEV_EN.tsv", "choice", [
        {"index": 241, "question": COLOUR, "hint": "", "A": "red", "B": "green", "C": "", "D": "", "answer": "A", "category": "attribute", "image": b64("red"),
         "source": "ours", "l2-category": "perception", "comment": "", "split": "dev"},
        {"index": 1000241, "question": COLOUR, "hint": "", "A": "green", "B": "red", "C": "", "D": "", "answer": "B", "category": "attribute", "image": "241",
         "source": "ours", "l2-category": "perception", "comment": "", "split": "dev"},
    ], [item(COLOUR, ["A"], ["red", "green"], "attribute", "241"), item(COLOUR, ["B"], ["green", "red"], "attribute", "1000241")]),
    Layout("MME.tsv", "yes_no", [
        {"index": 0, "image": b64("red"), "image_path": "color/a.png", "question": "Is it red?", "answer": "Yes", "category": "color"},
        {"index": 1, "image": "0", "image_path": "color/a.png", "question": "Is it blue?", "answer": "No", "category": "color"},
    ], [item("Is it red?", ["Yes"], [], "color", "0#0", group="color/a.png"), item("Is it blue?", ["No"], [], "color", "1#1", group="color/a.png")]),
    Layout("ChartQA_TEST.tsv", "relaxed", [
        {"index": 0, "image": b64("red"), "question": "How high?", "answer": "['14']", "split": "test_human"},
        {"index": 1, "image": b64("red"), "question": "Is it red?", "answer": "['Yes']", "split": "test_augmented"},
    ], [item("How high?", ["14"], [], "", "0"), item("Is it red?", ["Yes"], [], "", "1")]),
    Layout("DocVQA_VAL.tsv", "anls", [
        {"index": 49153, "image": b64("red"), "question": "Which word?", "answer": "['Red', \"the red's\"]"},
    ], [item("Which word?", ["Red", "the red's"], [], "", "49153")]),
    Layout("TextVQA_VAL.tsv", "vqa", [
        {"index": 1, "image": b64("red"), "question": "which colour?", "answer": str(["red"] * 9 + ["a red"])},
    ], [item("which colour?", ["red"] * 9 + ["a red"], [], "", "1")]),
    Layout("GQA_TestDev_Balanced.tsv", "words", [
        {"index": 1, "image": b64("red"), "question": "Is it red or blue?", "answer": "red"},
        {"index": 2, "image": b64("red"), "question": "Is it red?", "answer": "yes"},
    ], [item("Is it red or blue?", ["red"], [], "", "1"), item("Is it red?", ["yes"], [], "", "2")]),
    Layout("MMMU_DEV_VAL.tsv", "choice", [
        {"index": 1, "id": "validation_Art_1", "question": "Is <image 1> redder than <image 2>?", "A": "yes", "B": "no", "answer": "A", "category": "Art",
         "image": str([b64("red"), b64("blue")]), "split": "validation"},
    ], [item("Is <image 1> redder than <image 2>?", ["A"], ["yes", "no"], "Art", "validation_Art_1", 2)]),
    Layout("MMVet.tsv", "mmvet", [
        {"index": 0, "image": b64("red"), "question": "What is x?", "answer": "-1<AND>-5", "category": "ocr,math"},
    ], [item("What is x?", ["-1<AND>-5"], [], "ocr,math", "0")]),
    Layout("LLaVABench.tsv", "llava", [
        {"index": 0, "image": b64("red"), "question": "What is this?", "category": "conv", "caption": "A square, wholly red.", "gpt4_ans": "A red square."},
    ], [item("What is this?", ["A red square."], [], "conv", "0", context="A square, wholly red.")]),
    Layout("Video-MME/Video-MME.tsv", "choice", [
        {"index": 0, "video": "fFjv93ACGo8", "video_path": "./video/fFjv93ACGo8.mp4", "duration": "short", "domain": "Knowledge",
         "candidates": "['A. Two.', 'B. Three.']", "sub_category": "History", "task_type": "Counting Problem", "subtitle_path": "./subtitle/fFjv93ACGo8.srt",
         "question": "How many?", "answer": "B"},
    ], [item("How many?", ["B"], ["Two.", "Three."], "Counting Problem", "0", 0, 1, subtitles=True)], root="Video-MME/Video-MME.tsv"),
]
