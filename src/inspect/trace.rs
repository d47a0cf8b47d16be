//! How a text came about, round by round.

use super::{Generation, Origin, Round};
use drafthorse_engine::{Finish, Stats, Step};
use drafthorse_logits::TokenId;

/// The rounds of a text.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Trace {
    stats: Stats,
    rounds: Vec<Round>,
    tokens: Vec<TokenId>,
    origins: Vec<(Origin, usize)>,
    finish: Option<Finish>,
}

impl Trace {
    /// Adds a round.
    pub fn add(&mut self, step: &Step) {
        // The last text of a session that fails has no round.
        if step.tokens.is_empty() {
            return;
        }
        self.stats.add(step);
        let Step { drafted, examined, accepted, forced_accepted: forced, .. } = *step;
        self.rounds.push(Round { drafted, examined, accepted, forced, emitted: step.tokens.len() });
        self.tokens.extend(step.tokens.iter().map(|token| token.id));
        self.origins.extend(step.tokens.iter().map(|token| (token.provenance.into(), self.rounds.len())));
        self.finish.clone_from(&step.finish);
    }

    /// The tokens so far.
    pub fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Where each of them comes from, and its round, from 1.
    pub fn origins(&self) -> &[(Origin, usize)] {
        &self.origins
    }

    /// The rounds and their sums.
    pub fn generation(&self) -> Generation {
        let finish = match &self.finish {
            Some(Finish::StopToken(token)) => format!("stop token {token}"),
            Some(Finish::StopString(text)) => format!("stop string `{text}`"),
            Some(Finish::Grammar) => "complete under its constraint".into(),
            Some(Finish::Unsure { confidence }) => format!("the expert was not sure ({confidence:.2})"),
            Some(Finish::MaxTokens) => "as many tokens as were asked for".into(),
            Some(Finish::ContextEnd) => "the context is full".into(),
            Some(_) => "another reason".into(),
            None => "interrupted".into(),
        };
        Generation {
            rounds: self.rounds.clone(),
            drafted: self.stats.drafted,
            examined: self.stats.examined,
            accepted: self.stats.accepted,
            forced: self.stats.forced_accepted,
            emitted: self.stats.emitted,
            acceptance_rate: self.stats.acceptance_rate(),
            tokens_per_expert_pass: self.stats.tokens_per_expert_pass(),
            finish,
        }
    }
}
