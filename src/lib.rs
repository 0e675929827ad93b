//! Quantised LLaVA models with visual tokens merged in the image encoder and in the language model.
