use drafthorse_logits::{LogProbs, Ranked, TokenId, calibration::Judged, drift::Certainty};
use drafthorse_verifier::Price;
use std::time::Duration;

/// Where a token of the text comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provenance {
    /// Drafted, and accepted: by a cascade without asking the expert, by a rule that makes no such decision in
    /// whatever way.
    Drafted,
    /// Forced by a constraint, or written as it must be read, and accepted; no drafter was asked.
    Forced,
    /// Drafted; the cascade asked the expert, and it stands.
    Deferred,
    /// A proposed token was refused here, and this one put in its place.
    Replacement,
    /// It came on top after all proposed tokens were accepted, or none was proposed.
    Bonus,
}

/// A token of the text.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StepToken {
    /// The token.
    pub id: TokenId,
    /// Where it comes from.
    pub provenance: Provenance,
    /// The text that became complete with it: often its own; empty while a character or a possible stop
    /// string is unfinished.
    pub text: String,
    /// Log-probabilities under the expert at its position, where they are wanted.
    pub log_probs: Option<LogProbs>,
    /// How sure the expert was at its position, where that is wanted
    /// ([`SessionOptions::certainties`](crate::SessionOptions)).
    pub certainty: Option<Certainty>,
}

/// Why a text ended.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Finish {
    /// This stop token was generated.
    StopToken(TokenId),
    /// This stop string was generated.
    StopString(String),
    /// The text is complete under its constraint, and nothing may follow.
    Grammar,
    /// As many tokens as were asked for; a constraint may want more.
    MaxTokens,
    /// The sequence is as long as the expert's context; a constraint may want more.
    ContextEnd,
    /// The expert was not sure of too many tokens in a row ([`SessionOptions::abstain`](crate::SessionOptions)).
    Unsure {
        /// Its confidence at the last of them, calibrated if there is a calibrator.
        confidence: f64,
    },
}

/// What was asked of the drafter in a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Asked {
    /// Up to so many tokens.
    Tokens(usize),
    /// As many, to see whether drafting pays, where that is not known or it did not.
    Probe(usize),
    /// Nothing, because the draft length is 0 or there was no room.
    Nothing,
    /// Nothing, on purpose: drafting would not pay, or plain decoding was to be measured.
    Idle,
}

/// One round: what was drafted and accepted, and what the text gained.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// The tokens the text gained; fewer than accepted + `forced_accepted` + 1 where the text ended among them.
    pub tokens: Vec<StepToken>,
    /// The text it gained, which is that of the tokens and, at the end, what was held back.
    pub text: String,
    /// What was asked of the drafter.
    pub asked: Asked,
    /// Tokens the drafter proposed: all of a tree.
    pub drafted: usize,
    /// Of them, those that were looked at: the accepted ones and the refused one. Where several tokens competed for a
    /// position, positions are counted: those at which one stands, and the one at which all were refused.
    pub examined: usize,
    /// Of them, those that stand.
    pub accepted: usize,
    /// Tokens that the constraint forced, which were proposed beside those of the drafter and cost no drafting.
    pub forced: usize,
    /// Of them, those that stand. All do that are looked at, except for a guess at how what is certain is written.
    pub forced_accepted: usize,
    /// At how many positions the drafter proposed something: as many as it proposed tokens, or as a tree is deep.
    pub depth: usize,
    /// What became of the children of each point of a tree that was looked at: what
    /// [`RankAcceptance`](drafthorse_logits::RankAcceptance) learns from. Nothing without trees.
    pub ranks: Vec<Ranked>,
    /// Time the drafter took.
    pub draft_time: Duration,
    /// Time the expert's pass took, with the scores of its rows.
    pub verify_time: Duration,
    /// Time of everything else: judging, text, bookkeeping.
    pub other_time: Duration,
    /// What the rule did to the text, where it is not lossless and that was to be measured. The time this takes is
    /// in none of the others.
    pub price: Option<Price>,
    /// The drafter's confidence (its raw probability) in each token it proposed that was looked at, and whether it stood;
    /// where that is recorded. It says how long drafts should be: what
    /// [`AcceptanceEstimate`](drafthorse_logits::calibration::AcceptanceEstimate) is fitted to, and not a rule's
    /// calibrators.
    pub judged: Vec<Judged>,
    /// At the same positions, the drafter's highest raw probability, and whether its most probable token is the expert's:
    /// what the drafter's calibrator of a cascade's criterion ([`Confidence`](drafthorse_verifier::Confidence)) is fitted
    /// to, which looks at the same number. Which token was drawn, and whether it stood, does not matter.
    pub agreed: Vec<Judged>,
    /// Why the text ended, if it did.
    pub finish: Option<Finish>,
}

impl Step {
    /// A step that only gives out text.
    pub(crate) fn text_only(text: String) -> Self {
        Self {
            tokens: Vec::new(),
            text,
            asked: Asked::Nothing,
            drafted: 0,
            examined: 0,
            accepted: 0,
            forced: 0,
            forced_accepted: 0,
            depth: 0,
            ranks: Vec::new(),
            draft_time: Duration::ZERO,
            verify_time: Duration::ZERO,
            other_time: Duration::ZERO,
            price: None,
            judged: Vec::new(),
            agreed: Vec::new(),
            finish: None,
        }
    }
}
