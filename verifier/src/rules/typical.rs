use crate::{
    KeepRule, Kept, Kind, Needs, RuleInfo,
    catalogue::{Dial, at},
};
use drafthorse_logits::Scores;
use std::sync::Arc;

/// Typical acceptance: a drafted token stands that the expert does not find atypical.
///
/// * Kept are tokens with `p(v) > min(threshold, alpha exp(-H(p)))`, p as sampled, H in nats.
/// * Law: `pi(v) = q(v) [v kept] + eta p(v)`, eta being the drafter's mass on tokens that are not kept. Exact with
///   respect to that law, and never the expert's. At temperature 0 it is strict.
///
/// Source: Cai et al., "Medusa", 2024, section 2.3.1 (there a refused token is replaced from p, which is this law
/// with a few tokens fewer accepted).
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct Typical {
    /// Probability above which a token always stands.
    pub threshold: f64,
    /// Share of `exp(-H)` above which it stands too.
    pub alpha: f64,
}

const THRESHOLD: Dial = Dial::new("threshold", "probability above which a token always stands", 0.09)
    .within(0.0, 1.0, "0 to 1")
    .sweeping(&[0.5, 0.3, 0.25, 0.2, 0.15, 0.12, 0.09, 0.06, 0.03, 0.01, 0.001]);
const ALPHA: Dial = Dial::new("alpha", "share of exp(-entropy) above which it stands too", 0.3).within(
    0.0,
    f64::MAX,
    "0 or more; unless given, the root of the threshold",
);

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "typical",
    kind: Kind::Lossy,
    about: "the drafter decides over tokens that the expert does not find atypical",
    dials: &[THRESHOLD, ALPHA],
    make: |values| {
        let threshold = at(values, 0, &THRESHOLD);
        let alpha = values.get(1).copied().flatten().unwrap_or(threshold.sqrt());
        Arc::new(Typical { threshold, alpha })
    },
};

impl KeepRule for Typical {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn kept<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Kept<'a> {
        let least = self.threshold.min(self.alpha * (-expert.entropy()).exp());
        Kept::Sampled(expert, least.next_up())
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&THRESHOLD, self.threshold), (&ALPHA, self.alpha)]
    }

    fn kind(&self) -> Kind {
        INFO.kind
    }

    fn needs(&self) -> Needs {
        Needs::Sampled
    }
}
