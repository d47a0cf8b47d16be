//! What a constraint does along a session: it masks rows, forces drafts and ends the text.

use crate::{Error, ErrorKind, Provenance, Session, SessionOptions, draft::Source, session::sampling};
use drafthorse_logits::{
    ConstraintError, Context, LogitsProcessor, Matcher, Proposal, Sampler, SamplingOptions, Scores, TokenId,
    TokenSet,
};
use drafthorse_model::ModelError;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The matcher of a session, shared with the samplers of its drafter and its expert.
#[derive(Clone)]
pub(crate) struct Constrained(Arc<Mutex<State>>);

struct State {
    matcher: Box<dyn Matcher>,
    /// What can exclude tokens that the constraint allows.
    sampling: SamplingOptions,
    /// Length of the generated text. Behind it stand drafts, which may come to nothing.
    written: usize,
    /// Why nothing can follow the text.
    failure: Option<ConstraintError>,
}

impl State {
    /// The tokens that may follow. None where only the end may, also where the text is too short for an end token:
    /// the constraint knows better.
    fn allowed(&mut self, generated: &[TokenId]) -> Result<Arc<TokenSet>, ConstraintError> {
        let allowed = self.matcher.allowed(generated)?;
        let short = generated.len() < self.sampling.min_tokens;
        if short && allowed.iter().all(|token| self.sampling.end_tokens.contains(&token)) {
            return Ok(Arc::new(TokenSet::from_words(Vec::new(), 0)));
        }
        Ok(allowed)
    }

    /// Which options may be why nothing of what is allowed at a position is left.
    fn suspects(&self, position: usize, allowed: &TokenSet) -> Option<String> {
        let options = &self.sampling;
        let banned = |token| options.logit_bias.contains(&(token, f32::NEG_INFINITY));
        let found = [
            ("the forced first token", options.forced_first.is_some() && position == 0),
            ("the forced last token", options.forced_last.is_some_and(|(length, _)| position + 1 == length)),
            ("the logit bias", allowed.iter().any(banned)),
            ("the bad words", !options.bad_words.is_empty()),
            ("the n-grams that shall not come twice", options.no_repeat_ngram > 0),
            ("min tokens", position < options.min_tokens),
        ];
        let names: Vec<_> = found.into_iter().filter(|(_, may)| *may).map(|(name, _)| name).collect();
        (!names.is_empty()).then(|| names.join(" or "))
    }
}

impl Constrained {
    /// What the options constrain, if they do, of texts by an expert with `vocab` tokens.
    pub(crate) fn of(options: &SessionOptions, vocab: usize) -> Result<Option<Self>, Error> {
        let Some(constraint) = &options.constraint else { return Ok(None) };
        let known = constraint.vocab_size();
        if known > vocab {
            let message = format!(
                "the constraint speaks of {known} tokens and the expert of {vocab}; make it with the expert's tokenizer"
            );
            return Err(Error::new(ErrorKind::Vocabulary, message));
        }
        let matcher = constraint.start(&options.stop_tokens)?;
        let sampling = sampling(options);
        let mut state = State { matcher, written: 0, failure: None, sampling };
        let first = state.allowed(&[])?;
        if first.is_empty() {
            let message = "the constraint allows the empty text alone, which needs no model";
            return Err(Error::new(ErrorKind::Option, message));
        }
        if let Some(token) = state.sampling.forced_first.filter(|token| !first.contains(*token)) {
            let message = format!(
                "the constraint does not allow token {token} at the beginning, and it is to be the first one (forced first); name another, or leave one of the two out"
            );
            return Err(Error::new(ErrorKind::Option, message));
        }
        Ok(Some(Self(Arc::new(Mutex::new(state)))))
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

    /// Tokens that are forced after the text, as point masses, and how.
    pub(crate) fn forced(
        &self,
        generated: &[TokenId],
        max: usize,
        guesses: bool,
        vocab: usize,
    ) -> Result<(Proposal, Vec<Source>), ConstraintError> {
        let mut state = self.state();
        let mut tokens = state.matcher.forced(generated, max, guesses)?;
        if let Some(index) = tokens.iter().position(|&token| token as usize >= vocab) {
            let position = generated.len() + index;
            let message = format!("it forces token {}, and the vocabulary has {vocab}", tokens[index]);
            return Err(ConstraintError::Failed { position, message });
        }
        // No end comes before its time.
        let options = &state.sampling;
        let early = |index| generated.len() + index < options.min_tokens;
        let end = |(index, token): (usize, &TokenId)| early(index) && options.end_tokens.contains(token);
        let possible = tokens.iter().enumerate().take_while(|&token| !end(token)).count();
        tokens.truncate(possible);
        let mut text = generated.to_vec();
        let mut source = |&token: &TokenId| {
            let certain =
                !guesses || state.matcher.allowed(&text).is_ok_and(|allowed| allowed.only() == Some(token));
            text.push(token);
            if certain { Source::Certain } else { Source::Guess }
        };
        let sources = tokens.iter().map(&mut source).collect();
        let scores = tokens.iter().map(|&token| Scores::point(token, vocab)).collect();
        Ok((Proposal { tokens, scores }, sources))
    }

    /// Whether nothing may follow `generated`.
    pub(crate) fn has_ended(&self, generated: &[TokenId]) -> bool {
        self.state().allowed(generated).is_ok_and(|allowed| allowed.is_empty())
    }

    /// Cuts a proposal where it goes on as the constraint forbids although no chance was in it: drafters that look
    /// tokens up know no grammar. What is kept hangs on nothing that was drawn after it.
    pub(crate) fn cut(&self, generated: &[TokenId], proposal: &mut Proposal) {
        let mut text = generated.to_vec();
        let mut state = self.state();
        for (index, scores) in proposal.scores.iter().enumerate() {
            let allowed = state.allowed(&text);
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

    /// How many of `tokens` may follow `generated` one after the other, and whether nothing may follow those.
    fn extent(&self, generated: &[TokenId], tokens: &[(TokenId, Provenance)]) -> (usize, bool) {
        let mut text = generated.to_vec();
        let mut state = self.state();
        let allowed = tokens.iter().take_while(|(token, _)| {
            let allowed = state.allowed(&text);
            text.push(*token);
            allowed.is_ok_and(|allowed| allowed.contains(*token))
        });
        let allowed = allowed.count();
        text.truncate(generated.len() + allowed);
        (allowed, state.allowed(&text).is_ok_and(|allowed| allowed.is_empty()))
    }
}

impl Session<'_> {
    /// Cuts a round's tokens behind the last that the constraint allows; true where nothing may follow them.
    ///
    /// Behind a dead end rows are not restricted, so what was drawn from them is cut here, and the next round meets the
    /// dead end at its beginning.
    pub(crate) fn keep_allowed(&self, tokens: &mut Vec<(TokenId, Provenance)>) -> Result<bool, Error> {
        let Some(constrained) = &self.constrained else { return Ok(false) };
        let (allowed, ended) = constrained.extent(self.generated(), tokens);
        tokens.truncate(allowed);
        if allowed > 0 {
            return Ok(ended);
        }
        let (rule, drafter) = (self.rule.name(), self.engine.drafter.name());
        let message = format!(
            "rule `{rule}` let a token stand that the constraint excludes; drafter `{drafter}` must draw from the scores of `DraftRequest::sampler`"
        );
        Err(Error::new(ErrorKind::Constraint, message))
    }

    /// Why the expert's rows could not be used.
    pub(crate) fn expert_error(&self, error: ModelError) -> Error {
        let failure = self.constrained.as_ref().and_then(Constrained::failure);
        failure.map_or_else(|| Error::expert(error), Error::from)
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
        let error = match state.allowed(context.generated()) {
            Ok(allowed) if allowed.meets(row) => return allowed.restrict(row),
            Ok(allowed) if allowed.is_empty() => return,
            Ok(allowed) => ConstraintError::NothingLeft {
                position,
                allowed: allowed.len(),
                by: state.suspects(position, &allowed),
            },
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

    /// It asks a matcher that follows the text.
    fn is_pure(&self) -> bool {
        false
    }
}
