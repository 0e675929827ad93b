//! Fields that other servers' clients send and that are read nowhere here. Sources: OpenAI's API reference
//! for chat completions, llama.cpp's tools/server/README.md, vLLM's and SGLang's `ChatCompletionRequest`;
//! Ollama's docs/api.md, LM Studio's and OpenRouter's API pages; and bodies of clients, recorded on their way
//! (`json/tests.rs`).

use super::fields::Policy;

/// Fields of a body or a line.
pub(super) const BODY: Policy = Policy {
    neutral: &[
        // Batch lines and tracing.
        "id",
        "request_id",
        // OpenAI: the sender, storage and place.
        "model",
        "user",
        "metadata",
        "store",
        "service_tier",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "prediction",
        // llama-server: caches, measurements, numbers of samplers that are off.
        "n_keep",
        "n_discard",
        "n_cache_reuse",
        "return_tokens",
        "verbose",
        "preserved_tokens",
        "parse_tool_calls",
        "mirostat_tau",
        "mirostat_eta",
        "dynatemp_exponent",
        "xtc_threshold",
        "dry_base",
        "dry_allowed_length",
        "dry_penalty_last_n",
        "dry_sequence_breakers",
        "adaptive_decay",
        "backend_sampling",
        "sse_ping_interval",
        // vLLM: scheduling, caches, the engine that compiles grammars.
        "priority",
        "cache_salt",
        "kv_transfer_params",
        "guided_decoding_backend",
        "include_reasoning",
        // SGLang: a request's name, and how reasoning is streamed.
        "rid",
        "stream_reasoning",
        // Ollama, LM Studio: how long the model stays loaded.
        "keep_alive",
        "ttl",
        // Web front ends and OpenRouter: the conversation, the provider, the cost.
        "chat_id",
        "session_id",
        "provider",
        "route",
        "usage",
    ],
    unsupported: &[
        // OpenAI.
        ("functions", "[]"),
        ("function_call", "\"none\""),
        ("audio", "null"),
        ("verbosity", "\"medium\""),
        ("web_search_options", "null"),
        // OpenAI's responses: what its servers keep.
        ("previous_response_id", "null"),
        ("conversation", "null"),
        ("background", "false"),
        ("include", "[]"),
        ("max_tool_calls", "null"),
        ("truncation", "\"disabled\""),
        // Anthropic.
        ("mcp_servers", "[]"),
        ("container", "null"),
        ("output_config", "{}"),
        // llama-server.
        ("image_data", "[]"),
        ("multimodal_data", "[]"),
        ("mirostat", "0"),
        ("typical_p", "1"),
        ("tfs_z", "1"),
        ("dynatemp_range", "0"),
        ("xtc_probability", "0"),
        ("dry_multiplier", "0"),
        ("adaptive_target", "-1"),
        ("min_keep", "0"),
        ("n_indent", "0"),
        ("t_max_predict_ms", "0"),
        ("post_sampling_probs", "false"),
        ("lora", "[]"),
        ("grammar_lazy", "false"),
        ("grammar_triggers", "[]"),
        ("response_fields", "[]"),
        ("chat_template", "null"),
        ("thinking_forced_open", "false"),
        // vLLM.
        ("best_of", "1"),
        ("use_beam_search", "false"),
        ("length_penalty", "1"),
        ("early_stopping", "false"),
        ("min_tokens", "0"),
        ("stop_token_ids", "[]"),
        ("include_stop_str_in_output", "false"),
        ("skip_special_tokens", "true"),
        ("spaces_between_special_tokens", "true"),
        ("truncate_prompt_tokens", "null"),
        ("prompt_logprobs", "null"),
        ("allowed_token_ids", "[]"),
        ("bad_words", "[]"),
        ("echo", "false"),
        ("add_special_tokens", "false"),
        ("documents", "[]"),
        ("mm_processor_kwargs", "{}"),
        ("media_io_kwargs", "{}"),
        ("guided_whitespace_pattern", "null"),
        ("structural_tag", "null"),
        ("logits_processors", "[]"),
        ("logits_processor", "[]"),
        ("return_tokens_as_token_ids", "false"),
        ("return_token_ids", "false"),
        ("repetition_detection", "null"),
        ("vllm_xargs", "{}"),
        // SGLang.
        ("regex", "null"),
        ("ebnf", "null"),
        ("min_new_tokens", "0"),
        ("stop_regex", "[]"),
        ("no_stop_trim", "false"),
        ("return_hidden_states", "false"),
        ("lora_path", "null"),
        // OpenRouter.
        ("transforms", "[]"),
        ("plugins", "[]"),
        // Ollama.
        ("options", "{}"),
        ("format", "\"\""),
        ("template", "\"\""),
        ("suffix", "\"\""),
        ("raw", "false"),
        ("context", "[]"),
    ],
};

/// Fields of a message. Clients send answers back as they got them.
pub(super) const MESSAGE: Policy = Policy {
    neutral: &["name", "refusal", "annotations", "id", "cache_control"],
    unsupported: &[("audio", "null"), ("function_call", "null"), ("tool_call_id", "\"\"")],
};

/// Fields of a part of a message and of its reference.
pub(super) const PART: Policy = Policy {
    neutral: &["detail", "cache_control", "uuid", "id", "format", "annotations", "mime_type"],
    unsupported: &[],
};

/// Fields of `reasoning`.
pub(super) const REASONING: Policy =
    Policy { neutral: &["summary", "generate_summary", "exclude"], unsupported: &[("max_tokens", "null")] };

/// Fields of a tool and its function.
pub(super) const TOOL: Policy =
    Policy { neutral: &["strict", "cache_control", "id", "defer_loading"], unsupported: &[] };

pub(super) const STREAM_OPTIONS: Policy =
    Policy { neutral: &["include_obfuscation", "continuous_usage_stats"], unsupported: &[] };

/// Fields of `response_format`, its `json_schema` and `structured_outputs`.
pub(super) const FORMAT: Policy = Policy {
    neutral: &[
        "name",
        "description",
        "strict",
        "disable_fallback",
        "disable_any_whitespace",
        "disable_additional_properties",
    ],
    unsupported: &[("whitespace_pattern", "null"), ("structural_tag", "null")],
};
