//! What is measured of a transformer.

use super::{Agreement, MAX_DRAFT, SearchOptions, plan::Subject};
use crate::{
    ModelError, Probs, Purpose, TokenId, Transformer,
    cost::{RoundCosts, RowCost},
    logits::{Context, Draws, Logits, Sampler, SeededDraws},
    model::{CachedModel, EarlyExit, LanguageModel, SequenceModel, Shortcut},
};
use std::{
    ops::RangeInclusive,
    sync::Arc,
    time::{Duration, Instant},
};

/// Rounds of each draft length that are timed at least and at most; the fastest counts.
const ROUNDS: RangeInclusive<usize> = 3..=40;

/// How long a shortcut is timed, if [`ROUNDS`] allow it.
const TIMED: Duration = Duration::from_millis(300);

/// The share of the budget that writing texts may take.
const WRITING: f64 = 0.25;

/// The most bytes that rows of logits or laws may take.
const MEMORY: usize = 64 << 20;

/// A text of the model, with its laws from the end of the prompt on.
struct Text {
    tokens: Vec<TokenId>,
    prompt: usize,
    laws: Vec<Probs>,
}

/// A transformer, and texts in which its shortcuts are measured.
pub(super) struct Measured<'a> {
    model: &'a Arc<Transformer>,
    texts: Vec<Text>,
    sampler: Sampler,
    max_draft: usize,
}

impl<'a> Measured<'a> {
    /// Writes the texts: one at least, of one token at least, and more while there is time.
    pub(super) fn new(
        model: &'a Arc<Transformer>,
        prompts: &[Vec<TokenId>],
        options: &SearchOptions,
    ) -> Result<Self, ModelError> {
        if prompts.is_empty() {
            return Err(ModelError::EmptySequence);
        }
        let sampler = Sampler::new(&options.sampling)?.seeded(options.seed);
        let mut this =
            Self { model, texts: Vec::new(), sampler, max_draft: options.max_draft.clamp(1, MAX_DRAFT) };
        // Point masses take no memory.
        let law = if this.sampler.is_greedy() { 1 } else { size_of::<f64>() * model.vocab_size() };
        let mut room = (MEMORY / law).max(16);
        let (start, budget) = (Instant::now(), options.budget.mul_f64(WRITING));
        let is_late = || start.elapsed() > budget;
        for (number, prompt) in prompts.iter().enumerate() {
            let draws = SeededDraws::new(options.seed, number as u64);
            let text = this.write(prompt, options.tokens.min(room), &is_late, draws)?;
            room -= text.laws.len();
            this.texts.push(text);
            if is_late() {
                break;
            }
        }
        Ok(this)
    }

    fn write(
        &self,
        prompt: &[TokenId],
        count: usize,
        is_late: &dyn Fn() -> bool,
        mut draws: SeededDraws,
    ) -> Result<Text, ModelError> {
        let mut reader = CachedModel::new(self.model.clone());
        let mut text = Text { tokens: prompt.to_vec(), prompt: prompt.len(), laws: Vec::new() };
        let room = self.model.context_len().saturating_sub(prompt.len());
        for _ in 0..count.min(room) {
            let logits = reader.logits(&text.tokens, 1)?;
            let law = self.law(&text.tokens, text.prompt, logits.row(0))?;
            let next = draws.pick(text.tokens.len(), Purpose::Target, &law);
            text.laws.push(law);
            text.tokens.push(next);
            if self.model.generation_config().eos.contains(&next) || is_late() {
                break;
            }
        }
        Ok(text)
    }

    fn law(&self, text: &[TokenId], prompt: usize, row: &[f32]) -> Result<Probs, ModelError> {
        Ok(self.sampler.scores(&Context::new(text, prompt), row)?.probs().clone())
    }

    /// What a reader's rows share with the model's laws: `read` gives rows after the last tokens of a sequence, several
    /// for each.
    fn compare(
        &self,
        count: usize,
        mut read: impl FnMut(&[TokenId], usize) -> Result<Vec<Logits>, ModelError>,
    ) -> Result<Vec<Agreement>, ModelError> {
        let row = size_of::<f32>() * self.model.vocab_size() * (count + 1);
        let chunk = (MEMORY / row).clamp(1, 64);
        let mut shared = vec![Vec::with_capacity(self.texts.len()); count];
        for text in &self.texts {
            for texts in &mut shared {
                texts.push(Vec::with_capacity(text.laws.len()));
            }
            for (number, laws) in text.laws.chunks(chunk).enumerate() {
                let first = text.prompt + number * chunk;
                let end = first + laws.len() - 1;
                let found = read(&text.tokens[..end], laws.len())?;
                for (texts, logits) in shared.iter_mut().zip(&found) {
                    let Some(out) = texts.last_mut() else { continue };
                    for (at, (law, row)) in (first..).zip(laws.iter().zip(logits.iter())) {
                        let other = self.law(&text.tokens[..at], text.prompt, row)?;
                        out.push(1.0 - law.total_variation(&other));
                    }
                }
            }
        }
        Ok(shared.into_iter().map(Agreement::new).collect())
    }

    /// The best times of drafting and verifying in rounds with 0 to `max_draft` tokens.
    fn time(
        &self,
        expert: &mut dyn SequenceModel,
        drafter: &mut dyn SequenceModel,
    ) -> Result<Vec<(Duration, Duration)>, ModelError> {
        let mut best = vec![(Duration::MAX, Duration::MAX); self.max_draft + 1];
        let Some(text) = self.texts.iter().max_by_key(|text| text.tokens.len()) else { return Ok(best) };
        let mut sequence = text.tokens[..text.prompt].to_vec();
        let (context, start) = (expert.context_len(), Instant::now());
        for round in 0..=*ROUNDS.end() {
            if round > *ROUNDS.start() && start.elapsed() > TIMED {
                break;
            }
            for (k, best) in best.iter_mut().enumerate() {
                if sequence.len() + k + 1 > context {
                    sequence.truncate(1);
                }
                let (draft, verify) = time_round(expert, drafter, &mut sequence, k)?;
                // The first warms up.
                if round > 0 {
                    *best = (best.0.min(draft), best.1.min(verify));
                }
            }
        }
        Ok(best)
    }
}

/// A round at temperature 0, as an engine does it.
fn time_round(
    expert: &mut dyn SequenceModel,
    drafter: &mut dyn SequenceModel,
    sequence: &mut Vec<TokenId>,
    k: usize,
) -> Result<(Duration, Duration), ModelError> {
    let start = Instant::now();
    let said = drafter.continue_greedily(sequence, k)?;
    let draft = start.elapsed();
    let best = expert.argmax(&[&sequence[..], &said].concat(), k + 1)?;
    let verify = start.elapsed().saturating_sub(draft);
    let accepted = said.iter().zip(&best).take_while(|(said, best)| said == best).count();
    sequence.extend_from_slice(&best[..=accepted]);
    Ok((draft, verify))
}

impl Subject for Measured<'_> {
    fn agreement(&mut self, shortcuts: &[Shortcut]) -> Result<Vec<Agreement>, ModelError> {
        let exit = |shortcut: &Shortcut| match shortcut {
            Shortcut::Exit(layer) => Some(*layer),
            Shortcut::Skip(_) => None,
        };
        // Exits are in the model's own pass, all of them.
        if let Some(layers) = shortcuts.iter().map(exit).collect::<Option<Vec<_>>>() {
            let mut reader = CachedModel::new(self.model.clone());
            return self
                .compare(layers.len(), |tokens, rows| Ok(reader.layer_logits(tokens, rows, &layers)?.early));
        }
        let mut out = Vec::with_capacity(shortcuts.len());
        for shortcut in shortcuts {
            let mut reader = CachedModel::new(Arc::new(self.model.shortened(shortcut)?));
            out.extend(self.compare(1, |tokens, rows| Ok(vec![reader.logits(tokens, rows)?]))?);
        }
        Ok(out)
    }

    fn costs(&mut self, shortcut: &Shortcut) -> Result<RoundCosts, ModelError> {
        let times = match shortcut {
            Shortcut::Exit(layer) => {
                let exit = EarlyExit::new(self.model, *layer)?;
                self.time(&mut CachedModel::new(exit.expert()), &mut CachedModel::new(exit.drafter()))?
            }
            Shortcut::Skip(_) => {
                let drafter = Arc::new(self.model.shortened(shortcut)?);
                self.time(&mut CachedModel::new(self.model.clone()), &mut CachedModel::new(drafter))?
            }
        };
        let one = times[0].1.as_secs_f64();
        let cost = |(k, (draft, verify)): (usize, &(Duration, Duration))| RowCost {
            rows: k + 1,
            verify: verify.as_secs_f64() / one,
            draft: if k == 0 { 0.0 } else { draft.as_secs_f64() / one },
        };
        let costs = RoundCosts::new(times.iter().enumerate().map(cost));
        costs.ok_or_else(|| ModelError::Backend { message: "no round could be timed".into() })
    }
}
