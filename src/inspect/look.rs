//! Reads a text again, and collects what is said.

use super::{
    Laws, LayerSource, LensCell, Origin, Pair, Position,
    belief::{Name, belief, lens_cell},
};
use crate::rows::rows_at_a_time;
use drafthorse_logits::{Context, Logits, Memory, Probs, Sampler, SamplingOptions, Scores, TokenId};
use drafthorse_model::{LayerLogits, ModelError, SequenceModel};
use drafthorse_verifier::{AcceptanceRule, Needs};

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Look {
    /// How many of the last tokens.
    pub last: usize,
    /// How many of the most probable tokens of each row.
    pub candidates: usize,
    /// Bins of the histograms.
    pub bins: usize,
}

impl Default for Look {
    fn default() -> Self {
        Self { last: usize::MAX, candidates: 10, bins: 40 }
    }
}

/// Who is asked.
#[allow(clippy::exhaustive_structs, missing_debug_implementations)]
pub struct Sides<'a> {
    /// The expert, with or without its layers.
    pub expert: &'a mut dyn LayerSource,
    /// The drafter, if it is a model.
    pub drafter: Option<&'a mut dyn SequenceModel>,
    /// What accepts.
    pub rule: &'a dyn AcceptanceRule,
    /// How tokens are sampled.
    pub sampler: &'a Sampler,
    /// How those of the prompt would be: without what looks at the length of the text.
    pub prompt_sampler: &'a Sampler,
}

/// What is looked at.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Text<'a> {
    /// Its tokens.
    pub tokens: &'a [TokenId],
    /// How many of them are the prompt.
    pub prompt: usize,
    /// What becomes readable with each token; may be shorter.
    pub pieces: &'a [String],
    /// Where the tokens after the prompt come from, and the round; may be shorter.
    pub origins: &'a [(Origin, usize)],
}

impl<'a> Text<'a> {
    /// A text that was given.
    pub fn prompt(tokens: &'a [TokenId]) -> Self {
        Self { tokens, prompt: tokens.len(), pieces: &[], origins: &[] }
    }

    fn position(&self, index: usize, name: &Name<'_>) -> Position {
        let id = self.tokens[index];
        let generated = index.checked_sub(self.prompt).and_then(|at| self.origins.get(at));
        Position {
            index,
            id,
            text: self.pieces.get(index).cloned().unwrap_or_default(),
            name: name(id),
            origin: generated.map_or(Origin::Prompt, |(origin, _)| *origin),
            round: generated.map(|(_, round)| *round),
            expert: None,
            drafter: None,
            pair: None,
            lens: Vec::new(),
        }
    }
}

/// What expert and drafter say of the last tokens of a text. Holds only a few rows at a time.
///
/// # Errors
///
/// An empty text, one longer than the expert's context, a token outside its vocabulary; a model fails, or gives a row
/// from which no token can be drawn.
pub fn look(
    mut sides: Sides<'_>,
    text: &Text<'_>,
    look: &Look,
    name: &Name<'_>,
) -> Result<Vec<Position>, ModelError> {
    let tokens = text.tokens;
    let shown = tokens.len().saturating_sub(look.last);
    let mut positions: Vec<_> =
        (shown..tokens.len().min(1)).map(|first| text.position(first, name)).collect();
    if tokens.is_empty() {
        return Err(ModelError::EmptySequence);
    }
    let plain = Sampler::new(&SamplingOptions { temperature: 1.0, ..SamplingOptions::default() })?;
    let asked = Asked { text, look, name, plain };
    let read = &tokens[..tokens.len() - 1];
    let readable = sides.drafter.as_ref().map_or(0, |drafter| readable(&**drafter, read));
    let step = rows_at_a_time(sides.expert.vocab_size(), sides.expert.layers());
    let mut memory = sides.sampler.memory();
    // What is remembered of generated tokens begins with the first of them.
    let from = if memory == Memory::off() { shown } else { shown.min(text.prompt) };
    for start in (from.max(1) - 1..read.len()).step_by(step) {
        let end = read.len().min(start + step);
        let rows = sides.expert.read(&read[..end], end - start)?;
        let draft = match &mut sides.drafter {
            Some(drafter) if start < readable => {
                let end = end.min(readable);
                Some(drafter.logits(&read[..end], end - start)?)
            }
            _ => None,
        };
        for row in 0..end - start {
            let place = Place { row, at: start + row, memory };
            let scores = asked.scores(&sides, &place, rows.last.row(row))?;
            if start + row + 1 >= shown {
                positions.push(asked.position(&sides, &place, &scores, &rows, draft.as_ref())?);
            }
            if start + row + 1 >= text.prompt {
                memory = sides.sampler.remember(memory, &scores, tokens[start + row + 1]);
            }
        }
    }
    Ok(positions)
}

/// How many tokens a model can read.
fn readable(model: &dyn SequenceModel, tokens: &[TokenId]) -> usize {
    let known = tokens.iter().take_while(|&&token| (token as usize) < model.vocab_size()).count();
    known.min(model.context_len())
}

/// What is the same at every position.
struct Asked<'a> {
    text: &'a Text<'a>,
    look: &'a Look,
    name: &'a Name<'a>,
    plain: Sampler,
}

/// A row and the token that it follows.
struct Place {
    row: usize,
    at: usize,
    memory: Memory,
}

impl Asked<'_> {
    /// What the sampler makes of a row.
    fn scores(&self, sides: &Sides<'_>, place: &Place, logits: &[f32]) -> Result<Scores, ModelError> {
        let Text { tokens, prompt, .. } = *self.text;
        let sampler = if place.at + 1 < prompt { sides.prompt_sampler } else { sides.sampler };
        let context = Context::new(&tokens[..=place.at], prompt);
        Ok(sampler.scores(&context.remembering(place.memory), logits)?)
    }

    /// What both sides say of the token after a place.
    fn position(
        &self,
        sides: &Sides<'_>,
        place: &Place,
        expert: &Scores,
        rows: &LayerLogits,
        draft: Option<&Logits>,
    ) -> Result<Position, ModelError> {
        let (row, mut position) = (place.row, self.text.position(place.at + 1, self.name));
        let id = position.id;
        position.expert = Some(belief(expert, rows.last.row(row), id, self.look, self.name));
        if let Some(draft) = draft.filter(|draft| row < draft.rows()) {
            // As the drafter itself does where the vocabularies are padded to different lengths.
            let mut logits = draft.row(row).to_vec();
            logits.resize(rows.last.vocab_size(), f32::NEG_INFINITY);
            // Where the law is made of what the drafter says, its rows know nothing of the text's surprises.
            let memory = if sides.rule.needs_draft_after() { Memory::off() } else { place.memory };
            let draft = self.scores(sides, &Place { memory, ..*place }, &logits)?;
            position.drafter = Some(belief(&draft, &logits, id, self.look, self.name));
            position.pair = Some(Pair {
                sampled: laws(sides.rule, id, &draft, expert),
                raw: laws(sides.rule, id, &raw(&draft), &raw(expert)),
            });
        }
        if sides.expert.layers() > 0 {
            position.lens = self.lens(id, row, rows)?;
        }
        Ok(position)
    }

    fn lens(&self, token: TokenId, row: usize, rows: &LayerLogits) -> Result<Vec<LensCell>, ModelError> {
        let all = rows.early.iter().chain([&rows.last]);
        let cell = |logits: &Logits| {
            let scores = self.plain.scores(&Context::new(&[], 0), logits.row(row))?;
            Ok(lens_cell(&scores, token, self.name))
        };
        all.map(cell).collect()
    }
}

/// The same at temperature 1, unfiltered.
fn raw(scores: &Scores) -> Scores {
    Scores::from_probs(scores.raw().clone(), scores.raw().clone())
}

fn laws(rule: &dyn AcceptanceRule, token: TokenId, draft: &Scores, expert: &Scores) -> Laws {
    let distance = |a: &Probs, b: &Probs| a.total_variation(b).clamp(0.0, 1.0);
    let same_draw = |draft: &Probs, expert: &Probs| draft.sum_with(expert, |q, p| q * p);
    Laws {
        acceptance: (draft.prob(token) > 0.0).then(|| rule.acceptance(token, draft, expert)),
        expected_acceptance: if rule.needs() == Needs::Draw && !rule.shares_noise() {
            same_draw(draft.probs(), expert.probs())
        } else {
            1.0 - distance(&rule.target(draft, expert), draft.probs())
        },
        total_variation: distance(expert.probs(), draft.probs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_logits::processors::Mirostat;
    use drafthorse_model::{CachedModel, TableModel};
    use drafthorse_verifier::Lossless;
    use std::sync::Arc;

    const TOKENS: [TokenId; 7] = [1, 4, 2, 0, 3, 5, 1];

    fn model(vocab: usize, seed: u64) -> TableModel {
        TableModel::random(vocab, 2.0, seed)
    }

    fn seen(drafter: TableModel, last: usize, temperature: f32) -> Vec<Position> {
        let options = SamplingOptions { temperature, ..SamplingOptions::default() };
        let sampler = Sampler::new(&options).expect("in range");
        let mut expert = CachedModel::new(Arc::new(model(6, 1)));
        let mut drafter = CachedModel::new(Arc::new(drafter));
        let sides = Sides {
            expert: &mut expert,
            drafter: Some(&mut drafter),
            rule: &Lossless,
            sampler: &sampler,
            prompt_sampler: &sampler,
        };
        let wanted = Look { last, ..Look::default() };
        look(sides, &Text::prompt(&TOKENS), &wanted, &|id| id.to_string()).expect("tables never fail")
    }

    #[test]
    fn numbers_are_those_of_the_rows_before() {
        for position in &seen(model(6, 2), usize::MAX, 1.0)[1..] {
            let before = &TOKENS[..position.index];
            let (p, q) = (Probs::softmax(model(6, 1).row(before)), Probs::softmax(model(6, 2).row(before)));
            let (expert, pair) =
                (position.expert.as_ref().expect("it can read"), position.pair.as_ref().expect("both can"));
            let token = TOKENS[position.index];
            assert!((expert.probability - p.get(token)).abs() < 1e-12);
            assert!((expert.entropy - p.entropy()).abs() < 1e-9);
            let law = &pair.sampled;
            assert!((law.total_variation - p.total_variation(&q)).abs() < 1e-12);
            assert!(
                (law.acceptance.expect("possible") - (p.get(token) / q.get(token)).min(1.0)).abs() < 1e-12
            );
        }
    }

    #[test]
    fn greedy_laws_are_points_and_the_others_are_not() {
        for position in &seen(model(6, 2), usize::MAX, 0.0)[1..] {
            let pair = position.pair.as_ref().expect("both can read");
            assert!([0.0, 1.0].contains(&pair.sampled.total_variation));
            assert!((0.001..0.999).contains(&pair.raw.total_variation));
            let drafted = position.drafter.as_ref().expect("it can read").rank == 1;
            assert_eq!(pair.sampled.acceptance.is_some(), drafted, "greedy drafters say one token");
        }
    }

    #[test]
    fn a_drafter_speaks_as_far_as_it_can_read() {
        let speaks = |drafter: TableModel| -> Vec<usize> {
            let heard = |position: &Position| position.drafter.is_some() && position.pair.is_some();
            seen(drafter, usize::MAX, 1.0).iter().filter(|p| heard(p)).map(|p| p.index).collect()
        };
        assert_eq!(speaks(model(6, 2)), [1, 2, 3, 4, 5, 6]);
        assert_eq!(speaks(model(6, 2).with_context(3)), [1, 2, 3]);
        assert_eq!(
            speaks(model(5, 2)),
            [1, 2, 3, 4, 5],
            "token 5 it cannot read, but it can be asked before it"
        );
        // What it never says is never drafted.
        let padded = &seen(model(5, 2), usize::MAX, 1.0)[5];
        let drafter = padded.drafter.as_ref().expect("it can read so far");
        assert_eq!((drafter.log_prob, drafter.histogram.excluded), (None, 1));
        assert_eq!(padded.pair.as_ref().expect("both").sampled.acceptance, None);
        assert_eq!(speaks(model(8, 2)), [1, 2, 3, 4, 5, 6], "tokens that the expert lacks are never drafted");
    }

    /// Mirostat remembers how surprising the text was; what it allows is the same however little is shown.
    #[test]
    fn what_is_remembered_of_a_text_is_remembered_here_too() {
        let options = SamplingOptions {
            temperature: 1.0,
            mirostat: Some(Mirostat { tau: 1.5, eta: 0.6, ..Mirostat::default() }),
            ..SamplingOptions::default()
        };
        let sampler = Sampler::new(&options).expect("in range");
        let seen = |last: usize, prompt: usize| -> Vec<f64> {
            let mut expert = CachedModel::new(Arc::new(model(6, 1)));
            let sides = Sides {
                expert: &mut expert,
                drafter: None,
                rule: &Lossless,
                sampler: &sampler,
                prompt_sampler: &sampler,
            };
            let text = Text { prompt, ..Text::prompt(&TOKENS) };
            let wanted = Look { last, ..Look::default() };
            let positions = look(sides, &text, &wanted, &|id| id.to_string()).expect("tables never fail");
            let sampled =
                |position: &Position| position.expert.as_ref().map(|belief| belief.sampled_probability);
            positions.iter().filter_map(sampled).collect()
        };
        assert_eq!(seen(2, 2), seen(7, 2)[4..], "a part is as the whole");
        assert_ne!(seen(7, 2), seen(7, 7), "a text that was generated is remembered, a prompt is not");
    }

    #[test]
    fn the_last_positions_are_those_of_the_whole() {
        let whole = seen(model(6, 2), usize::MAX, 1.0);
        for last in [0, 1, 3, 6, 7, 8] {
            assert_eq!(seen(model(6, 2), last, 1.0), whole[7 - last.min(7)..]);
        }
    }
}
