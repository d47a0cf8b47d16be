//! One text of one point.

use super::{
    args::SweepArgs,
    grid::{Method, Point},
    metric::judge,
    run::{Counts, Run},
    task::Item,
};
use crate::cli::{drafters::DrafterPart, failure::Failure, interrupt::Interrupt, parts::Parts};
use drafthorse::{
    Drafter, Engine, Error, ErrorKind, ModelDrafter, SequentialCascade, SequentialRule, SessionOptions,
    TokenId, Transformer, cost::Counted, logits::log_sum_exp, model::CachedModel,
};
use std::{sync::Arc, time::Duration};

/// What texts are written and judged with.
pub(super) struct Measure<'a> {
    parts: &'a Parts,
    draft_length: usize,
    options: SessionOptions,
    seed: u64,
    /// The expert once more, which judges texts.
    judge: CachedModel<Transformer>,
}

/// A text and what it cost.
struct Text {
    tokens: Vec<TokenId>,
    content: String,
    counts: Counts,
    time: Duration,
    prompt_time: Duration,
}

/// What drafts cost is counted in rows of the drafter's model. A drafter of another kind would look as if it cost nothing.
fn check_countable(drafter: &DrafterPart) -> Result<(), Failure> {
    if drafter.is_none() || drafter.is_lookup() || drafter.model().is_some() {
        return Ok(());
    }
    let name = drafter.name();
    Err(Failure::new(format!(
        "sweep counts the rows of a drafter, and those of drafter `{name}` cannot be counted; name a model with the expert's tokens, or one of ngram, suffix and memory, or measure times with `drafthorse bench`"
    )))
}

/// Models that count their rows, anew for each text, so that what an earlier one left in a cache helps nobody.
struct Counters {
    expert: Arc<Counted<Transformer>>,
    drafter: Option<Arc<Counted<Transformer>>>,
}

impl Counters {
    fn new(parts: &Parts) -> Self {
        let drafter = parts.drafter.model().map(|model| Arc::new(Counted::new(model.clone())));
        Self { expert: Arc::new(Counted::new(parts.expert.clone())), drafter }
    }

    /// Rows of expert and drafter beyond the `ahead` tokens of the prompt that each read before the text.
    fn rows(&self, ahead: usize) -> (u64, u64) {
        let beyond = |model: &Arc<Counted<Transformer>>| model.rows().saturating_sub(ahead as u64);
        (beyond(&self.expert), self.drafter.as_ref().map_or(0, beyond))
    }
}

impl<'a> Measure<'a> {
    pub(super) fn new(args: &SweepArgs, parts: &'a Parts) -> Result<Self, Failure> {
        check_countable(&parts.drafter)?;
        let mut stop_tokens = parts.expert.generation_config().eos.clone();
        stop_tokens.retain(|&token| !args.ignore_eos && (token as usize) < parts.expert.config().vocab_size);
        let options = SessionOptions {
            sampling: args.sampling.options(parts.expert.tokenizer(), args.max_tokens)?,
            seed: args.sampling.seed(),
            max_tokens: args.max_tokens,
            stop_tokens,
            stop_strings: args.stop.clone(),
            ..Default::default()
        };
        let judge = CachedModel::new(parts.expert.clone());
        Ok(Self { parts, draft_length: args.draft_length, seed: options.seed, options, judge })
    }

    /// Why a point cannot be measured with this drafter.
    pub(super) fn unfit(&self, point: &Point) -> Result<Option<String>, Failure> {
        let counters = Counters::new(self.parts);
        let problem = match &point.method {
            Method::Sequential(_) => {
                let Some(drafter) = &counters.drafter else {
                    let name = self.parts.drafter.name();
                    return Ok(Some(format!("drafter `{name}` is no model that could write a text")));
                };
                SequentialCascade::new(counters.expert.clone(), drafter.clone()).err()
            }
            Method::Expert | Method::Speculative(_) => {
                let mut engine = self.engine(&counters, point)?;
                engine.session(&[0], &self.options_of(point)).err()
            }
        };
        match problem {
            None => Ok(None),
            Some(error) if error.kind() == ErrorKind::Rule => Ok(Some(error.to_string())),
            Some(error) => Err(error.into()),
        }
    }

    /// One text; `None` after Ctrl-C. `prompt` is the number of the item in its task.
    pub(super) fn run(
        &mut self,
        point: &Point,
        prompt: usize,
        item: &Item,
        interrupt: &Interrupt,
    ) -> Result<Option<Run>, Failure> {
        // Prompts of equal length shall not meet the same random numbers, or they would not tell more than one.
        self.options.seed = self.seed.wrapping_add((prompt as u64) << 32);
        let counters = Counters::new(self.parts);
        let text = match &point.method {
            Method::Sequential(rule) => Some(self.sequential(&counters, *rule, &item.tokens)?),
            Method::Expert | Method::Speculative(_) => {
                self.speculative(&counters, point, &item.tokens, interrupt)?
            }
        };
        let Some(mut text) = text else { return Ok(None) };
        (text.counts.expert_rows, text.counts.drafter_rows) = counters.rows(item.tokens.len() - 1);
        let log_probability = self.log_probability(&item.tokens, &text.tokens)?;
        Ok(Some(Run {
            point: point.id.clone(),
            counts: text.counts,
            seconds: text.time.as_secs_f64(),
            prompt_seconds: text.prompt_time.as_secs_f64(),
            quality: judge(&text.content, item.reference.as_deref(), log_probability),
            text: text.content,
            ..Run::default()
        }))
    }

    fn options_of(&self, point: &Point) -> SessionOptions {
        let (rule, length) = match &point.method {
            Method::Speculative(rule) => (Some(rule.clone()), self.draft_length),
            Method::Expert | Method::Sequential(_) => (None, 0),
        };
        SessionOptions { rule, draft_length: Some(length.into()), ..self.options.clone() }
    }

    fn engine(&self, counters: &Counters, point: &Point) -> Result<Engine, Error> {
        let drafter: Box<dyn Drafter> = match (&point.method, &counters.drafter) {
            (Method::Speculative(_), Some(model)) => {
                Box::new(ModelDrafter::new(model.clone()).named(self.parts.drafter.name()))
            }
            (Method::Speculative(_), None) => self.parts.drafter.make(),
            _ => DrafterPart::none().make(),
        };
        let mut builder = Engine::builder().expert(counters.expert.clone()).drafter(drafter);
        if let Some(tokenizer) = self.parts.expert.tokenizer() {
            builder = builder.detokenizer(tokenizer.clone());
        }
        builder.draft_length(self.draft_length).build()
    }

    fn speculative(
        &self,
        counters: &Counters,
        point: &Point,
        prompt: &[TokenId],
        interrupt: &Interrupt,
    ) -> Result<Option<Text>, Failure> {
        let mut engine = self.engine(counters, point)?;
        let mut session = engine.session(prompt, &self.options_of(point))?;
        let mut text = String::new();
        for step in &mut session {
            text += &step?.text;
            if interrupt.seen() {
                return Ok(None);
            }
        }
        let (stats, tokens) = (session.stats().clone(), session.generated().to_vec());
        let (time, prompt_time) = (stats.decode_time(), stats.prompt_time);
        Ok(Some(Text { tokens, content: text, counts: Counts::speculative(&stats), time, prompt_time }))
    }

    fn sequential(
        &self,
        counters: &Counters,
        rule: SequentialRule,
        prompt: &[TokenId],
    ) -> Result<Text, Failure> {
        let Some(drafter) = &counters.drafter else {
            return Err(Failure::new("a sequential cascade needs a model as drafter"));
        };
        let mut cascade = SequentialCascade::new(counters.expert.clone(), drafter.clone())?;
        if let Some(tokenizer) = self.parts.expert.tokenizer() {
            cascade = cascade.with_detokenizer(tokenizer.clone());
        }
        let text = cascade.generate(prompt, &self.options, rule)?;
        let counts = Counts::sequential(&text.stats);
        let (time, prompt_time) = (text.stats.decode_time, text.stats.prompt_time);
        Ok(Text { tokens: text.tokens, content: text.text, counts, time, prompt_time })
    }

    /// Mean over the tokens of a text, in nats, by the expert as it is (temperature 1, no filter).
    fn log_probability(&mut self, prompt: &[TokenId], tokens: &[TokenId]) -> Result<f64, Failure> {
        let sequence = [prompt, &tokens[..tokens.len().saturating_sub(1)]].concat();
        let logits = self.judge.logits(&sequence, tokens.len())?;
        let row = |(row, &token): (&[f32], &TokenId)| f64::from(row[token as usize]) - log_sum_exp(row);
        Ok(logits.iter().zip(tokens).map(row).sum::<f64>() / tokens.len().max(1) as f64)
    }

    /// Parameters of expert and drafter.
    pub(super) fn parameters(&self) -> (usize, usize) {
        let drafter = self.parts.drafter.model().map_or(0, |model| model.config().parameters());
        (self.parts.expert.config().parameters(), drafter)
    }
}
