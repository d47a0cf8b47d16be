//! How tokens are sampled.

mod texts;

use super::failure::Failure;
use clap::Args;
use drafthorse::{
    SamplingOptions, TokenId, Tokenizer,
    logits::{
        Order,
        processors::{Dry, Mirostat, MirostatVersion},
    },
};
use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
};

/// How tokens are sampled. What is not named is off.
#[derive(Args, Clone)]
#[command(next_help_heading = "Sampling")]
pub(crate) struct SamplingArgs {
    /// 0 takes the most probable token; 1 samples from the model as it is
    #[arg(
        short = 't',
        long,
        visible_alias = "temp",
        value_name = "T",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    pub(crate) temperature: f32,
    /// The same seed gives the same text; -1 draws one and says which. With a seed, drafts have a length that does not
    /// depend on time, unless the rule's text does not depend on them either (exact-match, coupled-noise) or -k asks for
    /// it. Without one it is 0
    #[arg(short = 's', long, value_name = "N", value_parser = parse_seed, allow_negative_numbers = true)]
    seed: Option<Seed>,
    /// Keep this many most probable tokens; 0 (or -1) is off
    #[arg(long, value_name = "N", default_value = "0", value_parser = parse_top_k, allow_negative_numbers = true)]
    top_k: usize,
    /// Keep the most probable tokens up to this mass; 1 is off
    #[arg(long, value_name = "P", default_value_t = 1.0, allow_negative_numbers = true)]
    top_p: f64,
    /// Keep tokens at least this share as probable as the most probable; 0 is off
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    min_p: f64,
    /// Keep tokens about as surprising as can be expected, up to this mass; 1 is off
    #[arg(
        long,
        visible_alias = "typical-p",
        value_name = "P",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    typical: f64,
    /// Keep tokens of at least this probability; 0 is off
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    epsilon_cutoff: f64,
    /// Keep tokens of at least this probability, or less where the entropy is high; 0 is off
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    eta_cutoff: f64,
    /// Keep tokens whose logit is within N standard deviations of the largest; 0 is off
    #[arg(
        long,
        visible_alias = "top-nsigma",
        value_name = "N",
        default_value_t = 0.0,
        allow_negative_numbers = true
    )]
    top_n_sigma: f64,
    /// The probability with which top choices are excluded at a position (XTC); 0 is off
    #[arg(long, value_name = "P", default_value_t = 0.0, allow_negative_numbers = true)]
    xtc_probability: f64,
    /// The probability from which on a token is a top choice, at most .5
    #[arg(long, value_name = "P", default_value_t = 0.1, allow_negative_numbers = true)]
    xtc_threshold: f64,
    /// Let the temperature go up and down by this much with the entropy; 0 is off
    #[arg(long, value_name = "T", default_value_t = 0.0, allow_negative_numbers = true)]
    dynatemp_range: f32,
    /// The curve along which it does
    #[arg(
        long,
        visible_alias = "dynatemp-exponent",
        value_name = "X",
        default_value_t = 1.0,
        allow_negative_numbers = true
    )]
    dynatemp_exp: f32,
    /// Keep the surprise of the text near a target instead of the choices above: version 1 or 2; 0 is off
    #[arg(long, value_name = "VERSION", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    mirostat: u8,
    /// The target of mirostat, in bits
    #[arg(
        long,
        visible_alias = "mirostat-tau",
        value_name = "BITS",
        default_value_t = 5.0,
        allow_negative_numbers = true
    )]
    mirostat_ent: f64,
    /// How fast mirostat goes there
    #[arg(
        long,
        visible_alias = "mirostat-eta",
        value_name = "X",
        default_value_t = 0.1,
        allow_negative_numbers = true
    )]
    mirostat_lr: f64,
    /// Divide positive logits of tokens of prompt and text by this, multiply negative ones; 1 is off
    #[arg(
        long,
        value_name = "X",
        default_value_t = 1.0,
        visible_alias = "repeat-penalty",
        allow_negative_numbers = true
    )]
    repetition_penalty: f32,
    /// Subtract this from the logits of generated tokens; 0 is off
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,
    /// Subtract this for every time a token was generated; 0 is off
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,
    /// How many of the last tokens these three penalties look at; -1 is all
    #[arg(long, visible_alias = "penalty-last-n", value_name = "N", default_value = "-1", value_parser = parse_last, allow_negative_numbers = true)]
    repeat_last_n: Last,
    /// Penalty of going on with a repetition (DRY); 0 is off
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    dry_multiplier: f32,
    /// By what it grows with each further token
    #[arg(long, value_name = "X", default_value_t = 1.75, allow_negative_numbers = true)]
    dry_base: f32,
    /// The longest repetition that goes free
    #[arg(long, value_name = "N", default_value_t = 2)]
    dry_allowed_length: usize,
    /// How many of the last tokens DRY looks at; -1 is all
    #[arg(long, value_name = "N", default_value = "-1", value_parser = parse_last, allow_negative_numbers = true)]
    dry_penalty_last_n: Last,
    /// A text over which no repetition reaches; may be repeated, `none` is none. Without it: line end, colon, quote
    /// and asterisk
    #[arg(long, value_name = "TEXT")]
    dry_sequence_breaker: Vec<String>,
    /// As many tokens in a row never come a second time; 0 is off
    #[arg(long, visible_alias = "no-repeat-ngram", value_name = "N", default_value_t = 0)]
    no_repeat_ngram_size: usize,
    /// A word that never comes as the tokens the tokenizer makes of it, with a space before it or without; may be
    /// repeated. Commas do not part words: they belong to it
    #[arg(long, visible_alias = "bad-words", value_name = "TEXT")]
    bad_word: Vec<String>,
    /// No end of the text before it has as many tokens
    #[arg(long, visible_aliases = ["min-length", "min-new-tokens"], value_name = "N", default_value_t = 0)]
    min_tokens: usize,
    /// The first token of the text
    #[arg(long, alias = "forced-bos-token-id", value_name = "ID")]
    forced_first: Option<TokenId>,
    /// The last token of a text that gets as long as --max-tokens allows
    #[arg(long, alias = "forced-eos-token-id", value_name = "ID")]
    forced_last: Option<TokenId>,
    /// Add BIAS to the logit of token ID; -inf bans it; may be repeated
    #[arg(short = 'l', long, value_name = "ID=BIAS", value_parser = parse_bias, allow_hyphen_values = true)]
    logit_bias: Vec<(TokenId, f32)>,
    /// The order in which all this happens, in a list: penalties,dry,top-n-sigma,top-k,typical,top-p,min-p,xtc,temperature
    /// is that of llama.cpp
    #[arg(long, value_name = "ORDER", value_parser = parse_order, conflicts_with = "sampler_preset")]
    samplers: Option<Order>,
    /// The order of another engine: hf (also transformers), llama.cpp (also llama-cpp) or vllm
    #[arg(long, value_name = "NAME", default_value = "hf", value_parser = parse_preset)]
    sampler_preset: Order,
}

impl SamplingArgs {
    /// What chance hangs on.
    pub(crate) fn seed(&self) -> u64 {
        self.seed.map_or(0, |seed| seed.value)
    }

    /// The seed, if one was drawn.
    pub(crate) fn drawn_seed(&self) -> Option<u64> {
        self.seed.filter(|seed| seed.drawn).map(|seed| seed.value)
    }

    /// Whether the text shall be the same each time it is written.
    pub(crate) fn is_repeatable(&self) -> bool {
        self.seed.is_some()
    }

    /// The options for a text of up to `max_tokens`; words are texts, and need the expert's tokenizer.
    pub(crate) fn options(
        &self,
        tokenizer: Option<&Arc<Tokenizer>>,
        max_tokens: usize,
    ) -> Result<SamplingOptions, Failure> {
        let tokenizer = tokenizer.map(AsRef::as_ref);
        Ok(SamplingOptions {
            logit_bias: self.logit_bias.clone(),
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            penalty_last_n: self.repeat_last_n.0,
            dry: self.dry(tokenizer)?,
            no_repeat_ngram: self.no_repeat_ngram_size,
            bad_words: texts::words(&self.bad_word, tokenizer)?,
            min_tokens: self.min_tokens,
            end_tokens: Vec::new(),
            forced_first: self.forced_first,
            forced_last: self.forced_last.map(|token| (max_tokens, token)),
            temperature: self.temperature,
            dynatemp_range: self.dynatemp_range,
            dynatemp_exponent: self.dynatemp_exp,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            typical_p: self.typical,
            epsilon: self.epsilon_cutoff,
            eta: self.eta_cutoff,
            top_n_sigma: self.top_n_sigma,
            xtc_probability: self.xtc_probability,
            xtc_threshold: self.xtc_threshold,
            mirostat: self.mirostat(),
            order: self.samplers.clone().unwrap_or_else(|| self.sampler_preset.clone()),
        })
    }

    fn mirostat(&self) -> Option<Mirostat> {
        let version = match self.mirostat {
            0 => return None,
            1 => MirostatVersion::V1,
            _ => MirostatVersion::V2,
        };
        Some(Mirostat { version, tau: self.mirostat_ent, eta: self.mirostat_lr })
    }

    fn dry(&self, tokenizer: Option<&Tokenizer>) -> Result<Dry, Failure> {
        let breakers = if self.dry_multiplier == 0.0 {
            Vec::new()
        } else {
            texts::breakers(&self.dry_sequence_breaker, tokenizer)?
        };
        Ok(Dry {
            multiplier: self.dry_multiplier,
            base: self.dry_base,
            allowed_length: self.dry_allowed_length,
            last_n: self.dry_penalty_last_n.0,
            breakers,
        })
    }
}

/// What chance hangs on.
#[derive(Clone, Copy)]
struct Seed {
    /// The seed itself.
    value: u64,
    /// Whether it was drawn, and not given.
    drawn: bool,
}

fn parse_seed(text: &str) -> Result<Seed, String> {
    match text.parse() {
        Ok(value) => Ok(Seed { value, drawn: false }),
        // Short enough to be typed again. Every hasher of the standard library is keyed by chance.
        Err(_) if text == "-1" => {
            Ok(Seed { value: RandomState::new().build_hasher().finish() >> 32, drawn: true })
        }
        Err(_) => Err(format!("`{text}` is no seed; write a whole number from 0 on, or -1 to draw one")),
    }
}

fn parse_top_k(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(k) => Ok(k),
        Err(_) if text == "-1" => Ok(0),
        Err(_) => Err(format!("`{text}` is no number of tokens; 0 is off")),
    }
}

/// A number of last tokens; 0 is all of them, as in the options.
#[derive(Clone, Copy)]
struct Last(usize);

fn parse_last(text: &str) -> Result<Last, String> {
    match text.parse::<i64>() {
        Ok(-1) => Ok(Last(0)),
        Ok(n) if n > 0 => usize::try_from(n).map(Last).map_err(|error| error.to_string()),
        Ok(0) => Err("0 would look at nothing; write -1 for all tokens, or leave the penalty out".into()),
        _ => Err(format!("`{text}` is no number of tokens; write -1 for all of them")),
    }
}

fn parse_bias(text: &str) -> Result<(TokenId, f32), String> {
    let separator = if text.contains('=') { '=' } else { ':' };
    let (token, bias) =
        text.split_once(separator).ok_or("write TOKEN=BIAS, for example 42=-1.5 or 42=-inf")?;
    let token = token.parse().map_err(|_| format!("`{token}` is not a token id"))?;
    let bias = bias.parse().map_err(|_| format!("`{bias}` is not a number"))?;
    Ok((token, bias))
}

fn parse_order(text: &str) -> Result<Order, String> {
    text.parse().map_err(|error: drafthorse::logits::LogitsError| error.to_string())
}

fn parse_preset(text: &str) -> Result<Order, String> {
    match text.to_ascii_lowercase().replace('_', "-").as_str() {
        "hf" | "transformers" | "huggingface" => return Ok(Order::hf()),
        "llama.cpp" | "llama-cpp" | "llamacpp" | "llama" => return Ok(Order::llama_cpp()),
        "vllm" => return Ok(Order::vllm()),
        _ => {}
    }
    Err(format!("there are {}; a list of stages goes with --samplers", Order::PRESETS.join(", ")))
}
