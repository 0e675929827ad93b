//! Answers as OpenAI's clients read them.

pub mod answer;
