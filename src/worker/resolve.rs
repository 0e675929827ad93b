//! A request as it was sent, made into one that the slots take: its schedule chosen for this
//! model, its text tokenised, its numbers checked.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;

use super::protocol::{self, Generate};
use crate::engine::slots::{Draw, Job, Loaded, Picture};
use crate::engine::{Grammar, Penalties, Sampling};
use crate::error::{Error, Kind, Result};
use crate::media::Pixels;
use crate::prompt::{Message, Part};
use crate::schedule::{Choice, Schedule, not_cut, select};

/// No token stands for more bytes of text than this; so a text of more bytes than tokens fit
/// times this need not be tokenised to be refused.
const TOKEN_BYTES: usize = 1024;

/// What a worker holds requests against.
pub(super) struct Resolver {
    pub loaded: Loaded,
    /// What was asked of the worker when it was started.
    pub choice: Choice,
    pub default: Schedule,
    pub merge_layers: Vec<u32>,
    pub slot_cells: u32,
}

impl Resolver {
    /// # Errors
    /// What the requester can mend; with the tokens of the prompt and of a slot where it is too long.
    pub(super) fn job(&self, request: Generate) -> Result<Job> {
        let schedule = self.schedule(request.merge.as_ref())?;
        self.check_length(&request.messages)?;
        let prompt = self.loaded.tokenize(&request.messages)?;
        let pictures = request.pictures.into_iter().enumerate().map(|(i, picture)| self::picture(i, picture));
        Ok(Job {
            id: request.id,
            scope: request.scope,
            prompt,
            pictures: pictures.collect::<Result<_>>()?,
            schedule,
            max_tokens: request.limits.max_tokens,
            stop: request.limits.stop,
            draw: self.draw(&request.sampling, request.grammar, request.limits.ignore_eos)?,
            logprobs: request.logprobs,
            trace: request.trace,
        })
    }

    fn schedule(&self, asked: Option<&Choice>) -> Result<Schedule> {
        let Some(choice) = asked else { return Ok(self.default.clone()) };
        let facts = &self.loaded.facts;
        let schedule = select(choice, &facts.shape, facts.pair.recommended.as_ref())?;
        match schedule.merge_layers().into_iter().find(|layer| !self.merge_layers.contains(layer)) {
            Some(layer) => Err(not_cut(layer, &self.merge_layers)),
            None => Ok(schedule),
        }
    }

    fn check_length(&self, messages: &[Message]) -> Result<()> {
        let parts = messages.iter().flat_map(|message| &message.parts);
        let bytes: usize = parts.map(|part| if let Part::Text(text) = part { text.len() } else { 0 }).sum();
        let most = TOKEN_BYTES * self.slot_cells as usize;
        if bytes <= most {
            return Ok(());
        }
        Err(Error::new(
            Kind::Context,
            format!(
                "the prompt has {bytes} bytes of text, which no {} tokens hold, and a slot takes no more: shorten it, or give a larger context (-c, shared by -np slots)",
                self.slot_cells
            ),
        ))
    }

    fn draw(
        &self,
        sampling: &protocol::Sampling,
        grammar: Option<protocol::Grammar>,
        ignore_end: bool,
    ) -> Result<Draw> {
        let numbers = [sampling.temperature, sampling.top_p, sampling.min_p];
        if numbers.iter().any(|number| !number.is_finite()) {
            return Err(Error::usage(format!(
                "temperature {}, top_p {}, min_p {}: give finite numbers",
                numbers[0], numbers[1], numbers[2]
            )));
        }
        Ok(Draw {
            sampling: Sampling {
                temperature: sampling.temperature,
                top_k: sampling.top_k,
                top_p: sampling.top_p,
                min_p: sampling.min_p,
                seed: sampling.seed.unwrap_or_else(random),
            },
            penalties: Penalties {
                // Below 0 is the whole context; what they remember is never more than that.
                last_n: u32::try_from(sampling.repeat_last_n)
                    .map_or(self.slot_cells, |n| n.min(self.slot_cells)),
                repeat: sampling.repeat_penalty,
                frequency: sampling.frequency_penalty,
                presence: sampling.presence_penalty,
                bias: sampling.logit_bias.clone(),
            },
            grammar: grammar.map(|grammar| match grammar {
                protocol::Grammar::Gbnf(text) => Grammar::Gbnf(text),
                protocol::Grammar::JsonSchema(text) => Grammar::JsonSchema(text),
                protocol::Grammar::JsonObject => Grammar::JsonSchema(r#"{"type":"object"}"#.into()),
            }),
            ignore_end,
        })
    }
}

/// # Errors
/// [`Kind::Media`] for pixels that are no picture of the size they are said to have.
fn picture(i: usize, picture: protocol::Picture) -> Result<Picture> {
    let (width, height) = (picture.width, picture.height);
    if width == 0 || height == 0 || picture.rgb.len() as u64 != u64::from(width) * u64::from(height) * 3 {
        return Err(Error::new(
            Kind::Media,
            format!("picture {}: {} bytes are no {width}x{height} picture", i + 1, picture.rgb.len()),
        ));
    }
    let pixels = Pixels { width, height, rgb: picture.rgb, remark: None };
    Ok(Picture { key: picture.key, pixels: Arc::new(pixels), decode_ms: picture.decode_ms })
}

/// A seed nobody chose: std's hashers are seeded by the system, anew each time.
fn random() -> u32 {
    let bits = RandomState::new().build_hasher().finish();
    u32::try_from(bits >> 32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_what_they_say() {
        let of = |width, height, n| protocol::Picture {
            key: [0; 32],
            width,
            height,
            rgb: vec![0; n],
            decode_ms: 0.0,
        };
        assert!(picture(0, of(2, 1, 6)).is_ok());
        for wrong in [of(2, 1, 5), of(0, 1, 0), of(1, 0, 0), of(u32::MAX, u32::MAX, 3)] {
            assert_eq!(picture(0, wrong).err().unwrap().kind(), Kind::Media);
        }
    }
}
