//! Prefixes after which laws are tested, and what both models say there.

use super::{ProofError, Subject};
use drafthorse_drafter::{DraftRequest, Drafter};
use drafthorse_logits::{Context, Draws, Probs, Purpose, Sampler, SamplingOptions, Scores, TokenId};
use drafthorse_model::SequenceModel;
use std::cmp::Reverse;

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
        let max = 1 + usize::from(first.is_some());
        let request = DraftRequest { max, score_after: false, raw: true, vocab, prompt, sampler };
        let mut draws = Forced { position: sequence.len(), token: first.unwrap_or_default() };
        if first.is_none() {
            draws.position = usize::MAX;
        }
        let proposal = self.drafter.propose(sequence, &request, &mut draws)?;
        let known = if first.is_some() && first != proposal.tokens.first().copied() { 1 } else { max };
        Ok(proposal.scores.into_iter().take(known).collect())
    }
}

/// A place in a text where something is drafted.
struct Candidate {
    prompt: usize,
    text: usize,
    draft: Scores,
    expert: Scores,
    likely: TokenId,
    score: f64,
}

impl Candidate {
    /// Where tokens are often refused and one of them is often accepted, a wrong law shows best.
    fn new(prompt: usize, text: usize, draft: Scores, expert: Scores) -> Self {
        let (q, p) = (draft.probs(), expert.probs());
        let overlap = (0..).zip(q.to_vec()).map(|(token, q)| (token, q.min(p.get(token))));
        let (likely, mass) = overlap.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((0, 0.0));
        let score = p.total_variation(q) * mass;
        Self { prompt, text, draft, expert, likely, score }
    }
}

/// The prefixes that show most: prompts with a part of their greedy texts, one of each prompt.
pub(super) fn choose(
    subject: &dyn Subject,
    texts: &[(&[TokenId], &[TokenId])],
    sampling: &SamplingOptions,
    count: usize,
) -> Result<Vec<Prefix>, ProofError> {
    let sampler = Sampler::new(sampling).map_err(drafthorse_engine::Error::from)?;
    let mut reader = Reader { expert: subject.expert(), drafter: subject.drafter(), sampler };
    let mut found = Vec::new();
    for (prompt, (before, text)) in texts.iter().enumerate() {
        if let Some(best) = best_cut(&mut reader, prompt, before, text)? {
            found.push(best);
        }
    }
    found.sort_by(|a: &Candidate, b| b.score.total_cmp(&a.score));
    found.truncate(count);
    if found.is_empty() {
        return Err(ProofError::NothingDrafted { prompts: texts.len() });
    }
    let whole = |candidate: Candidate| {
        let (before, text) = texts[candidate.prompt];
        let tokens = [before, &text[..candidate.text]].concat();
        complete(&mut reader, candidate, tokens)
    };
    found.into_iter().map(whole).collect()
}

/// The place in one text that shows most.
fn best_cut(
    reader: &mut Reader,
    prompt: usize,
    before: &[TokenId],
    text: &[TokenId],
) -> Result<Option<Candidate>, ProofError> {
    const CUTS: usize = 4;
    let mut best: Option<Candidate> = None;
    // The text is read from its end, so that the caches only shrink.
    let mut cuts: Vec<_> = (0..CUTS).map(|cut| text.len() * cut / CUTS).collect();
    cuts.sort_unstable_by_key(|cut| Reverse(*cut));
    cuts.dedup();
    for cut in cuts {
        let sequence = [before, &text[..cut]].concat();
        let Some(draft) = reader.draft(&sequence, None)?.into_iter().next() else { continue };
        let candidate = Candidate::new(prompt, cut, draft, reader.expert(&sequence)?);
        if best.as_ref().is_none_or(|best| candidate.score > best.score) {
            best = Some(candidate);
        }
    }
    Ok(best)
}

fn complete(
    reader: &mut Reader,
    candidate: Candidate,
    tokens: Vec<TokenId>,
) -> Result<Prefix, ProofError> {
    let Candidate { prompt, text, draft, expert, likely, .. } = candidate;
    let draft_after = reader.draft(&tokens, Some(likely))?.into_iter().nth(1);
    let expert_after = reader.expert(&[&tokens[..], &[likely]].concat())?;
    Ok(Prefix { prompt, text, tokens, draft, expert, likely, draft_after, expert_after })
}
