//! Prefixes after which laws are tested, and what both models say there.

use super::{ProofError, Subject};
use drafthorse_drafter::{DraftRequest, Drafter};
use drafthorse_logits::{Context, Draws, Memory, Probs, Purpose, Sampler, SamplingOptions, Scores, TokenId};
use drafthorse_model::SequenceModel;

/// A prefix with the laws after it.
pub(super) struct Prefix {
    /// The prompt's index, and how many tokens of its greedy text follow it.
    pub(super) prompt: usize,
    pub(super) text: usize,
    pub(super) tokens: Vec<TokenId>,
    pub(super) draft: Scores,
    pub(super) expert: Scores,
    /// The first token that is most often drafted and accepted.
    pub(super) likely: TokenId,
    /// What both say after it; the drafter where it drafts two tokens.
    pub(super) draft_after: Option<Scores>,
    pub(super) expert_after: Scores,
}

impl Prefix {
    pub(super) fn label(&self) -> String {
        let prompt = self.prompt + 1;
        match self.text {
            0 => format!("prompt {prompt}"),
            text => format!("prompt {prompt} and {text} tokens"),
        }
    }
}

/// Draws that take one token at one position, and elsewhere the most probable one.
struct Forced {
    position: usize,
    token: TokenId,
}

impl Draws for Forced {
    fn accept(&mut self, _position: usize, probability: f64) -> bool {
        probability > 0.5
    }

    fn pick(&mut self, position: usize, _purpose: Purpose, probs: &Probs) -> TokenId {
        if position == self.position { self.token } else { probs.max().0 }
    }
}

/// Asks both models for their laws, apart from any engine.
struct Reader {
    expert: Box<dyn SequenceModel>,
    drafter: Box<dyn Drafter>,
    sampler: Sampler,
}

impl Reader {
    fn expert(&mut self, sequence: &[TokenId]) -> Result<Scores, ProofError> {
        let logits = self.expert.logits(sequence, 1)?;
        let context = Context::new(sequence, sequence.len());
        Ok(self.sampler.scores(&context, logits.row(0)).map_err(drafthorse_model::ModelError::from)?)
    }

    /// The drafter's law after the sequence, and after a first drafted token if it is the forced one.
    fn draft(&mut self, sequence: &[TokenId], first: Option<TokenId>) -> Result<Vec<Scores>, ProofError> {
        let (vocab, prompt, sampler) = (self.expert.vocab_size(), sequence.len(), &self.sampler);
        let (max, memory) = (1 + usize::from(first.is_some()), Memory::off());
        let request =
            DraftRequest { max, score_after: false, raw: true, vocab, prompt, memory, sampler, stop: None };
        let mut draws = Forced { position: sequence.len(), token: first.unwrap_or_default() };
        if first.is_none() {
            draws.position = usize::MAX;
        }
        let proposal = self.drafter.propose(sequence, &request, &mut draws)?;
        let known = if first.is_some() && first != proposal.tokens.first().copied() { 1 } else { max };
        Ok(proposal.scores.into_iter().take(known).collect())
    }
}

/// A place in a text where something is drafted, and how well a wrong law shows there.
#[derive(Clone)]
struct Candidate {
    prompt: usize,
    text: usize,
    draft: Scores,
    expert: Scores,
    likely: TokenId,
    score: f64,
}

/// The token with the largest value.
fn best(values: impl Iterator<Item = f64>) -> (TokenId, f64) {
    (0..).zip(values).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0))
}

impl Candidate {
    /// Tokens are often refused, and one of them is often accepted: shows what is wrong with replacements,
    /// and with what comes after an accepted token.
    fn of_refusals(prompt: usize, text: usize, draft: &Scores, expert: &Scores) -> Self {
        let (q, p) = (draft.probs(), expert.probs());
        let (likely, mass) = best(q.to_vec().into_iter().zip(p.to_vec()).map(|(q, p)| q.min(p)));
        let (draft, expert, score) = (draft.clone(), expert.clone(), p.total_variation(q) * mass);
        Self { prompt, text, draft, expert, likely, score }
    }

    /// One token is more probable to the expert than to the drafter, who goes wrong after it: shows what is
    /// wrong with weights that are carried from one position to the next.
    fn of_weights(self, reader: &mut Reader, sequence: &[TokenId]) -> Result<Option<Self>, ProofError> {
        let (q, p) = (self.draft.probs().to_vec(), self.expert.probs().to_vec());
        let gain = |(q, p): (f64, f64)| if p > q { q * (1.0 - q / p) } else { 0.0 };
        let (likely, gain) = best(q.into_iter().zip(p).map(gain));
        let Some(after) = reader.draft(sequence, Some(likely))?.into_iter().nth(1) else { return Ok(None) };
        let expert = reader.expert(&[sequence, &[likely]].concat())?;
        let score = gain * expert.probs().total_variation(after.probs());
        Ok((score > 0.0).then_some(Self { likely, score, ..self }))
    }
}

/// The prefixes that show most: prompts with a part of their greedy texts.
pub(super) fn choose(
    subject: &dyn Subject,
    texts: &[(&[TokenId], &[TokenId])],
    sampling: &SamplingOptions,
    count: usize,
) -> Result<Vec<Prefix>, ProofError> {
    let sampler = Sampler::new(sampling).map_err(drafthorse_engine::Error::from)?;
    let mut reader = Reader { expert: subject.expert(), drafter: subject.drafter(), sampler };
    let mut kinds = [Vec::new(), Vec::new()];
    for (prompt, (before, text)) in texts.iter().enumerate() {
        // The text is read from its end, so that the caches only shrink.
        for cut in cuts(text.len()).into_iter().rev() {
            let sequence = [before, &text[..cut]].concat();
            let Some(draft) = reader.draft(&sequence, None)?.into_iter().next() else { continue };
            let refusals = Candidate::of_refusals(prompt, cut, &draft, &reader.expert(&sequence)?);
            kinds[1].extend(refusals.clone().of_weights(&mut reader, &sequence)?);
            kinds[0].push(refusals);
        }
    }
    if kinds[0].is_empty() {
        return Err(ProofError::NothingDrafted { prompts: texts.len() });
    }
    let whole = |candidate: Candidate| {
        let (before, text) = texts[candidate.prompt];
        let tokens = [before, &text[..candidate.text]].concat();
        complete(&mut reader, candidate, tokens)
    };
    in_turn(kinds, count).into_iter().map(whole).collect()
}

/// Where a text of this length is cut.
fn cuts(length: usize) -> Vec<usize> {
    const CUTS: usize = 4;
    let mut cuts: Vec<_> = (0..CUTS).map(|cut| length * cut / CUTS).collect();
    cuts.dedup();
    cuts
}

/// The best of each kind in turn, each prompt once where there are enough.
fn in_turn(mut kinds: [Vec<Candidate>; 2], count: usize) -> Vec<Candidate> {
    for kind in &mut kinds {
        kind.sort_by(|a, b| a.score.total_cmp(&b.score));
    }
    let mut chosen: Vec<Candidate> = Vec::new();
    let mut turn = 0;
    while chosen.len() < count && kinds.iter().any(|kind| !kind.is_empty()) {
        if let Some(next) = kinds[turn % 2].pop() {
            let known = |other: &Candidate| other.prompt == next.prompt;
            if chosen.iter().any(known) {
                continue;
            }
            chosen.push(next);
        }
        turn += 1;
    }
    chosen
}

fn complete(reader: &mut Reader, candidate: Candidate, tokens: Vec<TokenId>) -> Result<Prefix, ProofError> {
    let Candidate { prompt, text, draft, expert, likely, .. } = candidate;
    let draft_after = reader.draft(&tokens, Some(likely))?.into_iter().nth(1);
    let expert_after = reader.expert(&[&tokens[..], &[likely]].concat())?;
    Ok(Prefix { prompt, text, tokens, draft, expert, likely, draft_after, expert_after })
}
