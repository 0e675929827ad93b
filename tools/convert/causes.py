"""Why a folder that looks like a checkpoint is none: adapters, quantised weights, weights of another training setup."""

from pathlib import Path

from .problem import Problem

_REMEDY = "convert the model it was made from, in F32, F16 or BF16"
_METHODS = {"awq": "AWQ", "gptq": "GPTQ", "bitsandbytes": "bitsandbytes", "fp8": "FP8", "fbgemm_fp8": "FP8", "hqq": "HQQ",
            "eetq": "EETQ", "aqlm": "AQLM", "quanto": "Quanto", "compressed-tensors": "compressed-tensors",
            "torchao": "torchao", "mxfp4": "MXFP4", "finegrained_fp8": "FP8"}
# Ends of tensor names that only one method writes.
_PARTS = {".qweight": "AWQ or GPTQ", ".qzeros": "AWQ or GPTQ", ".SCB": "bitsandbytes", ".absmax": "bitsandbytes",
          ".quant_map": "bitsandbytes", ".weight_scale_inv": "FP8", ".weight_scale": "FP8 or compressed-tensors",
          ".weight_packed": "compressed-tensors"}


def check_adapter(folder: Path) -> None:
    """An adapter's folder has no model in it."""
    config = folder / "adapter_config.json"
    weights = any(folder.glob("model*.safetensors")) or any(folder.glob("pytorch_model*.bin"))
    if not config.is_file() or weights:
        return
    from .checkpoint import read_json

    base = read_json(config).get("base_model_name_or_path") or "its base model"
    raise Problem(f"{folder} is a PEFT adapter, not a model: download {base}, then convert that with --lora {folder}")


def check_quantised(folder: Path, config: dict) -> None:
    for part in (config, config.get("text_config"), config.get("vision_config")):
        told = (part or {}).get("quantization_config") or (part or {}).get("compression_config")
        if isinstance(told, dict):
            method = str(told.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in told else "unknown"))
            raise _quantised(folder, _METHODS.get(method.lower(), method))


def check_names(folder: Path, names) -> None:
    for name in names:
        for end, method in _PARTS.items():
            if name.endswith(end):
                raise _quantised(folder, method)
        if ".lora_" in name:
            raise Problem(f"{folder} holds weights with unmerged LoRA adapters (tensor {name}): save the model again after "
                          "PEFT's merge_and_unload")


def _quantised(folder: Path, method: str) -> Problem:
    return Problem(f"{folder} holds weights quantised by {method}, which cannot be converted: {_REMEDY}")
