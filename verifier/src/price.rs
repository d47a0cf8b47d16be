use crate::{AcceptanceRule, Kind, Reading, Round};
use drafthorse_logits::{Probs, Scores, Verdict};
use std::borrow::Cow;

/// What a rule that is not lossless did to a text: sums over positions.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Price {
    /// Positions of the text whose laws were compared.
    pub positions: u64,
    /// Sum of the total variation between the rule's law and the expert's.
    pub total_variation: f64,
    /// Sum of the divergence `KL(law || expert)`, in nats, over the positions where it is finite.
    pub divergence: f64,
    /// Positions where it is infinite: the law can say what the expert, as sampled, cannot.
    pub unsupported: u64,
    /// Drafted positions at which the rule chose whether to ask the expert.
    pub decisions: u64,
    /// Of them, those at which it asked.
    pub deferred: u64,
}

impl Price {
    /// Adds the sums of another text.
    pub fn merge(&mut self, other: &Self) {
        self.positions += other.positions;
        self.total_variation += other.total_variation;
        self.divergence += other.divergence;
        self.unsupported += other.unsupported;
        self.decisions += other.decisions;
        self.deferred += other.deferred;
    }

    fn add_position(&mut self, law: &Probs, expert: &Probs) {
        self.positions += 1;
        if std::ptr::eq(law, expert) {
            return;
        }
        self.total_variation += law.total_variation(expert);
        let divergence = law.kl(expert);
        if divergence.is_finite() {
            self.divergence += divergence.max(0.0);
        } else {
            self.unsupported += 1;
        }
    }
}

impl Reading {
    /// Whether the rule asked the expert at each position that was looked at, where it makes such a decision.
    pub fn deferrals(
        &self,
        round: &Round<'_>,
        rule: &dyn AcceptanceRule,
        verdict: &Verdict,
    ) -> Vec<Option<bool>> {
        let Some(expert) = self.rows().filter(|_| rule.kind() != Kind::Lossless) else {
            return vec![None; verdict.examined()];
        };
        let proposal = round.proposal;
        let examined = proposal.tokens.iter().zip(&proposal.scores).zip(expert).take(verdict.examined());
        examined.map(|((&token, draft), expert)| rule.deferral(token, draft, expert)).collect()
    }

    /// What the rule did to the first `emitted` tokens of the round, which the text has gained; `None` of a lossless
    /// rule, which does nothing.
    pub fn price(
        &self,
        round: &Round<'_>,
        rule: &dyn AcceptanceRule,
        deferrals: &[Option<bool>],
        emitted: usize,
    ) -> Option<Price> {
        let expert = self.rows().filter(|_| rule.kind() != Kind::Lossless)?;
        let mut price = Price::default();
        for (index, expert) in expert.iter().take(emitted).enumerate() {
            price.add_position(&law(rule, round.proposal.scores.get(index), expert), expert.probs());
        }
        for deferred in deferrals.iter().take(emitted).flatten() {
            price.decisions += 1;
            price.deferred += u64::from(*deferred);
        }
        Some(price)
    }
}

/// The law at a position.
fn law<'a>(rule: &dyn AcceptanceRule, draft: Option<&'a Scores>, expert: &'a Scores) -> Cow<'a, Probs> {
    draft.map_or_else(|| rule.undrafted(expert), |draft| rule.target(draft, expert))
}
