//! How sure the expert is along the text, and what follows from it.

use crate::{Error, ErrorKind, SessionOptions, StepToken, draft::Draft};
use drafthorse_logits::{
    Proposal, Verdict,
    calibration::{Calibrator, Judged},
    drift::{Certainty, Drift},
};
use drafthorse_verifier::Reading;

/// When a text is given up because the expert does not know how to go on.
///
/// It ends with [`Finish::Unsure`](crate::Finish::Unsure) at the token that is the `patience`-th in a row before which the
/// expert's confidence, the highest probability of its own row at temperature 1 and before any processor, was below a
/// threshold. A constraint does not make it surer, not even where it forces a token. The last token still is part of the
/// text, and it is the same one whatever is drafted.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Abstain {
    /// The threshold, from 0 (never) to 1.
    pub below: f64,
    /// How many tokens in a row, 1 or more.
    pub patience: usize,
    /// Through what the confidence is read, if it is not taken as it is.
    pub calibrator: Option<Calibrator>,
}

impl Abstain {
    fn check(&self) -> Result<(), Error> {
        let fail = |message: String| Err(Error::new(ErrorKind::Option, message));
        if !(0.0..=1.0).contains(&self.below) {
            return fail(format!("abstention below a confidence of {} is out of range: 0 to 1", self.below));
        }
        if self.patience == 0 {
            return fail("abstention with a patience of 0 tokens; at least 1 is needed".into());
        }
        Ok(())
    }

    fn confidence(&self, certainty: Certainty) -> f64 {
        let confidence = certainty.max_probability;
        self.calibrator.as_ref().map_or(confidence, |calibrator| calibrator.apply(confidence))
    }
}

/// What a session looks at besides the text.
pub(crate) struct Watch {
    record: bool,
    certainties: bool,
    abstain: Option<Abstain>,
    /// Tokens in a row of which the expert is not sure.
    unsure: usize,
    drift: Option<Drift>,
}

impl Watch {
    pub(crate) fn new(options: &SessionOptions) -> Result<Self, Error> {
        options.abstain.as_ref().map_or(Ok(()), Abstain::check)?;
        Ok(Self {
            record: options.record,
            certainties: options.certainties,
            abstain: options.abstain.clone(),
            unsure: 0,
            drift: options.drift.clone().map(Drift::new),
        })
    }

    /// Whether anything is asked of an engine that does not watch.
    pub(crate) fn refuse(options: &SessionOptions, who: &str) -> Result<(), Error> {
        if Self::new(options)?.is_on() {
            let message =
                format!("{who} records no confidences, watches no drift and never abstains; use a session");
            return Err(Error::new(ErrorKind::Option, message));
        }
        Ok(())
    }

    /// Whether pairs are wanted, and so the drafter's raw rows.
    pub(crate) fn records(&self) -> bool {
        self.record
    }

    /// Whether the expert's rows are wanted.
    pub(crate) fn is_on(&self) -> bool {
        self.record || self.looks_at_certainty()
    }

    fn looks_at_certainty(&self) -> bool {
        self.certainties || self.abstain.is_some() || self.drift.is_some()
    }

    /// How sure the expert was at the first `count` positions of a round.
    pub(crate) fn certainties(&self, reading: &Reading, count: usize) -> Vec<Certainty> {
        let count = if self.looks_at_certainty() { count } else { 0 };
        (0..count).map_while(|index| reading.certainty(index)).collect()
    }

    /// The token of the round with which the text is given up, and the confidence there.
    pub(crate) fn give_up(&mut self, certainties: &[Certainty]) -> Option<(usize, f64)> {
        let abstain = self.abstain.as_ref()?;
        certainties.iter().enumerate().find_map(|(index, &certainty)| {
            let confidence = abstain.confidence(certainty);
            self.unsure = if confidence < abstain.below { self.unsure + 1 } else { 0 };
            (self.unsure >= abstain.patience).then_some((index, confidence))
        })
    }

    /// The drafter's confidences in the tokens that were looked at, and whether they stood.
    pub(crate) fn judged(&self, draft: &Draft, verdict: &Verdict) -> Vec<Judged> {
        let Proposal { tokens, scores } = &draft.proposal;
        self.examined(draft, verdict)
            .map(|at| (scores[at].raw_prob(tokens[at]), at < verdict.accepted))
            .collect()
    }

    /// The drafter's highest probabilities where its tokens were looked at, and whether its most probable token is the
    /// expert's.
    pub(crate) fn agreed(&self, draft: &Draft, reading: &Reading, verdict: &Verdict) -> Vec<Judged> {
        let (drafter, expert) = (&draft.proposal.scores, reading.rows().unwrap_or_default());
        self.examined(draft, verdict)
            .filter_map(|at| Some((&drafter[at], expert.get(at)?)))
            .map(|(drafter, expert)| (drafter.raw_max(), drafter.raw_best() == expert.raw_best()))
            .collect()
    }

    /// The positions of which pairs are recorded: those at which a token of the drafter's own was looked at.
    fn examined<'a>(&self, draft: &'a Draft, verdict: &Verdict) -> impl Iterator<Item = usize> + use<'a> {
        let examined = if self.record { verdict.examined() } else { 0 };
        (0..examined.min(draft.proposal.tokens.len())).filter(|at| !draft.is_forced(*at))
    }

    /// Takes note of tokens of the text, which then say how sure the expert was if they shall.
    pub(crate) fn note(&mut self, tokens: &mut [StepToken], certainties: &[Certainty]) {
        for (token, &certainty) in tokens.iter_mut().zip(certainties) {
            if let Some(drift) = &mut self.drift {
                drift.observe(certainty);
            }
            token.certainty = self.certainties.then_some(certainty);
        }
    }

    pub(crate) fn drift(&self) -> Option<&Drift> {
        self.drift.as_ref()
    }
}
