"""The paper's sets, and where they lie in a folder of sets."""

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PublicSet:
    name: str
    # Names of folders or files below the folder of sets, the best first; case and punctuation do not matter.
    places: tuple
    # What a cell shows: "accuracy", "mme", "categories", "rating", "chat" or "cider".
    shows: str = "accuracy"
    # Category of the set that counts, if not all of it.
    category: str = ""
    flags: tuple = ()


def _sets(*rows):
    return {row.name: row for row in rows}


SETS = _sets(
    PublicSet("AI2D", ("ai2d", "AI2D_TEST.tsv")),
    PublicSet("MMBench", ("MMBench/en", "MMBench", "MMBench_DEV_EN.tsv")),
    PublicSet("MME", ("MME", "MME.tsv"), "mme"),
    PublicSet("MMMU", ("MMMU", "MMMU_DEV_VAL.tsv")),
    PublicSet("MMStar", ("MMStar", "MMStar.tsv")),
    PublicSet("MMVet", ("MMVet", "mm-vet.json", "MMVet.tsv")),
    PublicSet("SeedBench image", ("SEED-Bench", "SEEDBench", "SEEDBench_IMG.tsv"), category="image"),
    PublicSet("MuirBench", ("MUIRBENCH", "MUIRBench.tsv")),
    PublicSet("Q-Bench", ("Q-Bench-HF", "Q-Bench", "Q-Bench1_VAL.tsv")),
    PublicSet("ActivityNet-QA", ("ActivityNetQA",)),
    PublicSet("EgoSchema", ("egoschema/Subset", "egoschema")),
    PublicSet("MLVU", ("MLVU_dev", "MLVU", "MLVU_MCQ.tsv"), "categories"),
    PublicSet("NextQA", ("NExTQA/MC", "NExTQA")),
    PublicSet("PerceptionTest", ("PerceptionTest_Val/mc_question_val", "PerceptionTest_Val", "PerceptionTest")),
    PublicSet("SeedBench video", ("SEED-Bench", "SEEDBench"), category="video"),
    PublicSet("VideoChatGPT generic", ("VideoChatGPT/Generic",), "chat"),
    PublicSet("VideoChatGPT temporal", ("VideoChatGPT/Temporal",), "chat"),
    PublicSet("VideoChatGPT consistency", ("VideoChatGPT/Consistency",), "chat"),
    PublicSet("VideoDC", ("VideoDetailDescription", "VideoDetailCaption"), "rating"),
    PublicSet("VideoMME", ("Video-MME/videomme", "Video-MME", "Video-MME.tsv")),
    PublicSet("VideoMME, subtitles", ("Video-MME/videomme", "Video-MME", "Video-MME.tsv"), flags=("--subtitles",)),
    PublicSet("DocVQA", ("DocVQA/DocVQA", "DocVQA", "DocVQA_VAL.tsv")),
    PublicSet("InfoVQA", ("DocVQA/InfographicVQA", "InfoVQA", "InfographicVQA", "InfoVQA_VAL.tsv")),
    PublicSet("ChartQA", ("ChartQA", "ChartQA_TEST.tsv")),
    PublicSet("NoCaps", ("NoCaps",), "cider"),
    PublicSet("Flickr30k", ("flickr30k",), "cider"),
)
TABLE_1 = ("AI2D", "MMBench", "MME", "MMMU", "MMStar", "MMVet", "SeedBench image", "MuirBench", "Q-Bench")
TABLE_2 = ("ActivityNet-QA", "EgoSchema", "MLVU", "NextQA", "PerceptionTest", "SeedBench video", "VideoChatGPT generic",
           "VideoChatGPT temporal", "VideoChatGPT consistency", "VideoDC", "VideoMME", "VideoMME, subtitles")
TABLE_10 = ("DocVQA", "InfoVQA", "ChartQA")
# Tables 4 to 9 are means over these.
MEAN = ("MMMU", "MMBench", "MuirBench")
FIGURE_1 = ("MMMU", "EgoSchema")
FIGURE_4 = ("MMMU", "MME", "NoCaps", "Flickr30k", "EgoSchema")
FIGURE_5 = ("MMMU", "SeedBench image", "MMStar")


def _plain(name):
    return re.sub(r"[^a-z0-9.]", "", name.lower())


def find(folder, public):
    """The path of a set below `folder`, or None."""
    for place in public.places:
        at = Path(folder)
        for part in place.split("/"):
            below = sorted(at.iterdir()) if at.is_dir() else []
            at = next((path for path in below if _plain(path.name) == _plain(part)), None)
            if at is None:
                break
        if at is not None:
            return at
    return None
