//! What is proposed in a round: what a constraint forces, and what the drafter says.

use crate::{Error, Session, constrained::Constrained, raced::Raced};
use drafthorse_drafter::{DraftRequest, Drafter};
use drafthorse_logits::{Draws, Memory, Origin, Proposal, TokenId, Verdict};
use drafthorse_model::ModelError;
use drafthorse_verifier::{Kind, Needs};
use std::ops::Range;

/// The most tokens that are forced in a round. They are all but certain, cost no drafting and share the pass, so that
/// the draft length says nothing about them.
const FORCED: usize = 32;

/// A proposal with where its tokens come from.
#[derive(Default)]
pub(crate) struct Draft {
    pub(crate) proposal: Proposal,
    /// Where they come from; those after these are the drafter's.
    sources: Vec<Source>,
    /// Where the drafter's proposal stands, if it was asked for one as a whole.
    whole: Option<Range<usize>>,
    /// How sure a drafter without probabilities said it is of its first tokens.
    sure: Vec<f64>,
}

/// Where a proposed token comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The drafter.
    Own,
    /// A constraint that allows nothing else.
    Certain,
    /// A constraint that allows one text, as the tokenizer would write it.
    Guess,
}

/// How many more tokens a round may propose.
struct Room {
    forced: usize,
    own: usize,
}

/// What became of a proposal: of the drafter's own tokens, and of those that a constraint forced.
pub(crate) struct Counts {
    pub(crate) drafted: usize,
    pub(crate) examined: usize,
    pub(crate) accepted: usize,
    pub(crate) forced: usize,
    pub(crate) forced_accepted: usize,
}

impl Draft {
    /// What the drafter proposes where nothing is forced.
    fn free(proposal: Proposal) -> Self {
        let whole = Some(0..proposal.tokens.len());
        Self { proposal, whole, ..Self::default() }
    }

    /// What is left of a tree when it was judged: its path. The drafter hears of the tree itself.
    pub(crate) fn path(proposal: Proposal) -> Self {
        Self { proposal, ..Self::default() }
    }

    fn append_own(&mut self, more: Proposal) {
        let sources = vec![Source::Own; more.tokens.len()];
        self.append(more, sources);
    }

    fn append(&mut self, mut more: Proposal, mut sources: Vec<Source>) {
        self.sources.append(&mut sources);
        self.proposal.tokens.append(&mut more.tokens);
        self.proposal.scores.append(&mut more.scores);
    }

    /// Whether a constraint forced token `index`.
    pub(crate) fn is_forced(&self, index: usize) -> bool {
        self.sources.get(index).is_some_and(|source| *source != Source::Own)
    }

    /// How many of the first `count` tokens a constraint forced.
    fn forced_among(&self, count: usize) -> usize {
        self.sources.iter().take(count).filter(|source| **source != Source::Own).count()
    }

    pub(crate) fn counts(&self, verdict: &Verdict) -> Counts {
        let own = |count| count - self.forced_among(count);
        Counts {
            drafted: own(self.proposal.tokens.len()),
            examined: own(verdict.examined()),
            accepted: own(verdict.accepted),
            forced: self.forced_among(self.sources.len()),
            forced_accepted: self.forced_among(verdict.accepted),
        }
    }

    /// Where a constraint forced a token, no rule decides whom to ask.
    pub(crate) fn clear_forced(&self, deferrals: &mut [Option<bool>]) {
        let forced = deferrals.iter_mut().zip(&self.sources).filter(|(_, source)| **source != Source::Own);
        forced.for_each(|(deferral, _)| *deferral = None);
    }

    /// Whether a drafter without probabilities said how sure it is; `None` where nothing was proposed.
    pub(crate) fn offers(&self) -> Option<bool> {
        self.whole.as_ref().filter(|whole| !whole.is_empty()).map(|_| !self.sure.is_empty())
    }

    /// How sure the drafter was of those of its tokens that are among the first `count`.
    pub(crate) fn confidences(&self, count: usize, rows: bool) -> Vec<f64> {
        if !rows {
            return self.sure.iter().copied().take(count).collect();
        }
        let drawn = self.proposal.tokens.iter().zip(&self.proposal.scores).take(count).enumerate();
        let own = drawn.filter(|(index, _)| !self.is_forced(*index));
        own.map(|(_, (token, scores))| scores.raw_prob(*token)).collect()
    }

    /// How much more may be proposed where `length` of the drafter's own tokens and `left` in all are asked for.
    fn room(&self, length: usize, left: usize) -> Room {
        let (proposed, forced) = (self.sources.len(), self.forced_among(self.sources.len()));
        let left = left - proposed;
        Room { forced: left.min(FORCED - forced), own: left.min(length - (proposed - forced)) }
    }

    /// How many guesses stood, and whether one was refused.
    pub(crate) fn guessed(&self, verdict: &Verdict) -> (usize, bool) {
        let stood = self.sources.iter().take(verdict.accepted);
        let refused = verdict.origin == Origin::Replacement
            && self.sources.get(verdict.accepted) == Some(&Source::Guess);
        (stood.filter(|source| **source == Source::Guess).count(), refused)
    }

    /// What the drafter is to hear of its own proposal, if it was looked at.
    pub(crate) fn heard(&self, verdict: Verdict) -> Option<Verdict> {
        let whole = self.whole.clone().filter(|whole| !whole.is_empty())?;
        let accepted = verdict.accepted.checked_sub(whole.start)?;
        if accepted < whole.len() {
            return Some(Verdict { accepted, ..verdict });
        }
        // What was forced behind its proposal comes on top of it.
        let forced = self.proposal.tokens.get(whole.end..verdict.accepted).and_then(<[_]>::first);
        let next = forced.copied().unwrap_or(verdict.next);
        Some(Verdict { accepted: whole.len(), next, origin: Origin::Bonus })
    }
}

impl Session<'_> {
    pub(crate) fn draft(&mut self) -> Result<Draft, Error> {
        // The last token of a round never is a drafted one, so one less than what is left.
        let left = self.emitter.left() - 1;
        let score_after = self.rule.needs_draft_after();
        if !self.bounds.drafts() || (left == 0 && !score_after) {
            self.engine.drafter.rest();
            return Ok(Draft::default());
        }
        if let Some(constrained) = self.constrained.clone() {
            return self.draft_constrained(&constrained, left, score_after);
        }
        let max = self.plan.max.min(left);
        if max == 0 && !score_after {
            self.engine.drafter.rest();
            return Ok(Draft::default());
        }
        let sequence = std::mem::take(&mut self.sequence);
        let proposal = self.ask(&sequence, self.memory, max, score_after);
        self.sequence = sequence;
        let mut proposal = proposal?;
        let sure = self.cut(&mut proposal);
        Ok(Draft { sure, ..Draft::free(proposal) })
    }

    /// Forced tokens, and the drafter's between them. A drafter that drafts token by token anyway is asked for one at a
    /// time, so that it never spends a step on what is forced.
    fn draft_constrained(
        &mut self,
        constrained: &Constrained,
        left: usize,
        score_after: bool,
    ) -> Result<Draft, Error> {
        let stepwise = self.engine.drafter.is_stepwise();
        let (mut draft, mut asked, mut ended) = (Draft::default(), false, false);
        // Where the law looks at the draft, a guess would change it; what is certain is what the drafter would say.
        let lawful = self.rule.kind() == Kind::Lossless && !score_after;
        let guesses = lawful && self.guessing.begin_round();
        loop {
            let mut text = [&self.sequence, &draft.proposal.tokens[..]].concat();
            let room = draft.room(self.plan.max, left).forced;
            let vocab = self.engine.verifier.vocab_size();
            let forced = constrained.forced(&text[self.prompt..], room, guesses, vocab);
            let (forced, sources) =
                if draft.sources.is_empty() { forced? } else { forced.unwrap_or_default() };
            text.extend_from_slice(&forced.tokens);
            draft.append(forced, sources);
            let own = if ended { 0 } else { draft.room(self.plan.max, left).own };
            if asked || (own == 0 && !score_after) || constrained.has_ended(&text[self.prompt..]) {
                return Ok(draft);
            }
            asked = !stepwise || own == 0;
            let count = if asked { own } else { 1 };
            let mut more =
                self.ask(&text, self.memory_after(&draft.proposal), count, asked && score_after)?;
            let mut sure = self.cut(&mut more);
            constrained.cut(&text[self.prompt..], &mut more);
            let at = draft.sources.len();
            if at == 0 && !stepwise {
                sure.truncate(more.tokens.len());
                draft.sure = sure;
            }
            draft.whole = draft.whole.or((!stepwise).then_some(at..at + more.tokens.len()));
            let after = more.scores.len() > more.tokens.len();
            asked |= more.tokens.is_empty();
            draft.append_own(more);
            ended |= self.ends(&draft.proposal);
            if after {
                return Ok(draft);
            }
        }
    }

    /// Whether a draft ends with the tokens it has.
    fn ends(&self, draft: &Proposal) -> bool {
        !draft.tokens.is_empty() && self.plan.stop.as_ref().is_some_and(|stop| stop.ends(draft))
    }

    /// What the drafter's sampler remembers behind a proposal.
    fn memory_after(&self, proposal: &Proposal) -> Memory {
        let tokens = proposal.tokens.iter().zip(&proposal.scores);
        tokens
            .fold(self.memory, |memory, (&token, scores)| self.draft_sampler.remember(memory, scores, token))
    }

    /// What the drafter proposes after `sequence`.
    fn ask(
        &mut self,
        sequence: &[TokenId],
        memory: Memory,
        max: usize,
        score_after: bool,
    ) -> Result<Proposal, Error> {
        let vocab = self.engine.verifier.vocab_size();
        let proposal = self.asked((memory, max, score_after), |drafter, request, draws| {
            drafter.propose(sequence, request, draws)
        })?;
        proposal.check(vocab, max).map_err(|error| Error::proposal(self.engine.drafter.name(), error))?;
        Ok(proposal)
    }

    /// What the drafter says to a request.
    pub(crate) fn asked<T>(
        &mut self,
        (memory, max, score_after): (Memory, usize, bool),
        ask: impl FnOnce(&mut dyn Drafter, &DraftRequest<'_>, &mut dyn Draws) -> Result<T, ModelError>,
    ) -> Result<T, Error> {
        let vocab = self.engine.verifier.vocab_size();
        let request = DraftRequest {
            max,
            score_after,
            raw: self.rule.needs() == Needs::Raw || self.watch.records() || self.reads_rows(),
            vocab,
            prompt: self.prompt,
            // The law of such rules is made of what the drafter says too, and must not depend on k.
            memory: if self.rule.needs_draft_after() { Memory::off() } else { memory },
            sampler: &self.draft_sampler,
            stop: self.plan.stop.as_deref(),
        };
        let drafter = &mut self.engine.drafter;
        let mut raced = Raced(&mut *self.draws);
        let draws = if self.rule.shares_noise() { &mut raced } else { &mut *raced.0 };
        let said = ask(&mut **drafter, &request, draws);
        said.map_err(|error| Error::drafter(drafter.name(), error))
    }
}
