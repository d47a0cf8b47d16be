//! What a constraint does along a session: it masks rows, forces drafts and ends the text.

use drafthorse_logits::{
    Constraint, ConstraintError, Context, LogitsProcessor, Matcher, Proposal, Sampler, Scores, TokenId,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The matcher of a session, shared with the samplers of its drafter and its expert.
#[derive(Clone)]
pub(crate) struct Constrained(Arc<Mutex<State>>);

struct State {
    matcher: Box<dyn Matcher>,
    /// Length of the generated text. Behind it stand drafts, which may come to nothing.
    written: usize,
    /// Why nothing can follow the text.
    failure: Option<ConstraintError>,
}

/// How far a round's tokens go under the constraint.
pub(crate) struct Extent {
    /// How many of the tokens it allows.
    pub(crate) tokens: usize,
    /// Whether nothing may follow them.
    pub(crate) ended: bool,
}

impl Constrained {
    /// For a text that ends with one of `ends`.
    pub(crate) fn start(constraint: &dyn Constraint, ends: &[TokenId]) -> Result<Self, ConstraintError> {
        let state = State { matcher: constraint.start(ends)?, written: 0, failure: None };
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `sampler`, restricted to what is allowed, for the expert and for the drafter.
    pub(crate) fn samplers(&self, sampler: &Sampler) -> (Sampler, Sampler) {
        let with = |drafts| sampler.clone().with_processor(Mask { constrained: self.clone(), drafts });
        (with(false), with(true))
    }

    /// The text has `written` tokens.
    pub(crate) fn begin_round(&self, written: usize) {
        self.state().written = written;
    }

    /// Why a row at the end of the text could not be used, where it was the constraint's doing.
    pub(crate) fn failure(&self) -> Option<ConstraintError> {
        self.state().failure.take()
    }

    /// Tokens that are forced after the text, as point masses.
    pub(crate) fn forced(
        &self,
        generated: &[TokenId],
        max: usize,
        guesses: bool,
        vocab: usize,
    ) -> Result<Proposal, ConstraintError> {
        let mut tokens = self.state().matcher.forced(generated, max, guesses)?;
        // Ids that only the tokenizer has cannot come.
        let known = tokens.iter().take_while(|&&token| (token as usize) < vocab).count();
        tokens.truncate(known);
        let scores = tokens.iter().map(|&token| Scores::point(token, vocab)).collect();
        Ok(Proposal { tokens, scores })
    }

    /// Whether nothing may follow `generated`.
    pub(crate) fn has_ended(&self, generated: &[TokenId]) -> bool {
        self.state().matcher.allowed(generated).is_ok_and(|allowed| allowed.is_empty())
    }

    /// Cuts a proposal where it goes on as the constraint forbids although no chance was in it: drafters that look
    /// tokens up know no grammar. What is kept hangs on nothing that was drawn after it.
    pub(crate) fn cut(&self, generated: &[TokenId], proposal: &mut Proposal) {
        let mut text = generated.to_vec();
        let mut state = self.state();
        for (index, scores) in proposal.scores.iter().enumerate() {
            let allowed = state.matcher.allowed(&text);
            let possible = allowed.is_ok_and(|allowed| match scores.probs().as_point() {
                Some(token) => allowed.contains(token),
                None => !allowed.is_empty(),
            });
            if !possible {
                proposal.tokens.truncate(index);
                proposal.scores.truncate(index);
                return;
            }
            text.extend(proposal.tokens.get(index));
        }
    }

    /// How far `tokens` go after the text.
    ///
    /// # Errors
    ///
    /// The first of them is not allowed, which is nobody's right.
    pub(crate) fn extent(
        &self,
        generated: &[TokenId],
        tokens: impl Iterator<Item = TokenId>,
    ) -> Result<Extent, ConstraintError> {
        let mut text = generated.to_vec();
        let mut state = self.state();
        for token in tokens {
            let allowed = state.matcher.allowed(&text);
            if !allowed.is_ok_and(|allowed| allowed.contains(token)) {
                break;
            }
            text.push(token);
        }
        let (position, tokens) = (generated.len(), text.len() - generated.len());
        if tokens == 0 {
            return Err(ConstraintError::Failed { position, message: "a token came that it excludes".into() });
        }
        let ended = state.matcher.allowed(&text).is_ok_and(|allowed| allowed.is_empty());
        Ok(Extent { tokens, ended })
    }
}

/// Restricts rows to what the constraint allows.
struct Mask {
    constrained: Constrained,
    /// Whether the rows are the drafter's.
    drafts: bool,
}

impl LogitsProcessor for Mask {
    /// Behind a draft that cannot stand, or after the end of the text, rows stay as they are: nothing is ever drawn
    /// from them that becomes text. At the end of the text itself, where they would be, nothing is left of them.
    fn process(&self, context: &Context<'_>, row: &mut [f32]) {
        let mut state = self.constrained.state();
        let position = context.generated().len();
        let text = !self.drafts && position == state.written;
        let error = match state.matcher.allowed(context.generated()) {
            Ok(allowed) if allowed.meets(row) => return allowed.restrict(row),
            Ok(allowed) if allowed.is_empty() => return,
            Ok(allowed) => ConstraintError::NothingLeft { position, allowed: allowed.len() },
            Err(error) if text => error,
            Err(_) => return,
        };
        // A drafter that has nothing to say is told so by a row of nothing.
        if text || self.drafts {
            row.fill(f32::NEG_INFINITY);
        }
        if text {
            state.failure = Some(error);
        }
    }
}
