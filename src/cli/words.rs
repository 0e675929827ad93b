//! Names on the command line of the settings that errors are about.

use crate::error::Field;

/// Returns the flag of a setting.
pub(super) fn flag(field: Field) -> &'static str {
    match field {
        Field::Prompt => "-p",
        Field::System => "-sys",
        Field::Merge => "--merge",
        Field::Keep => "--keep",
        Field::KeepMin => "--keep-min",
        Field::KeepMax => "--keep-max",
        Field::VitLayers => "--vit-layers",
        Field::VitR => "--vit-r",
        Field::LlmLayers => "--llm-layers",
        Field::LlmR => "--llm-r",
        Field::LlmKeep => "--llm-keep",
        Field::LlmMass => "--llm-mass",
        Field::Score => "--score",
        Field::Grid => "--grid",
        Field::Positions => "--positions",
        Field::Strategy => "--strategy",
        Field::VitSizes => "--vit-sizes",
        Field::MaxTokens => "-n",
        Field::Stop => "--stop",
        Field::Temperature => "--temp",
        Field::TopP => "--top-p",
        Field::MinP => "--min-p",
        Field::Seed => "--seed",
        Field::RepeatPenalty => "--repeat-penalty",
        Field::FrequencyPenalty => "--frequency-penalty",
        Field::PresencePenalty => "--presence-penalty",
        Field::LogitBias => "--logit-bias",
        Field::Grammar => "--grammar",
        Field::JsonSchema => "--json-schema",
        Field::TopLogprobs => "--n-probs",
        Field::Repository => "-hf",
        Field::TextModel => "-m",
        Field::Projector => "-mm",
        Field::CropModel => "--crop-model",
        Field::GpuLayers => "-ngl",
        Field::ContextSize => "-c",
        Field::Slots => "-np",
        Field::CacheTypeK => "-ctk",
        Field::CacheTypeV => "-ctv",
        Field::FlashAttention => "-fa",
        Field::ChatTemplate => "--chat-template",
        Field::ImageMinTokens => "--image-min-tokens",
        Field::ImageMaxTokens => "--image-max-tokens",
        Field::MicroBatch => "-ub",
        Field::VideoFrames => "--video-frames",
        Field::Metric => "--metric",
        Field::Split => "--split",
        Field::Judge => "--judge",
        Field::JudgeModel => "--judge-model",
        Field::Log => "--log",
        Field::MaxPrompt
        | Field::MaxImages
        | Field::MaxVideos
        | Field::MaxGrammar
        | Field::MaxDepth
        | Field::MaxChoices => field.name(),
    }
}

/// Returns the name for a line of `batch`: the body's name, or the flag if the setting is the program's.
pub(super) fn line(field: Field) -> &'static str {
    match field {
        Field::Repository
        | Field::TextModel
        | Field::Projector
        | Field::CropModel
        | Field::ContextSize
        | Field::Slots
        | Field::CacheTypeK
        | Field::CacheTypeV
        | Field::FlashAttention
        | Field::ChatTemplate
        | Field::ImageMinTokens
        | Field::ImageMaxTokens
        | Field::MicroBatch
        | Field::VideoFrames => flag(field),
        field => field.name(),
    }
}
