use crate::{
    KeepRule, Kept, Kind, RuleInfo,
    catalogue::{Dial, at},
};
use drafthorse_logits::{Probs, Scores, TokenId};
use std::{borrow::Cow, sync::Arc};

/// Top-k acceptance: a drafted token stands that is among the expert's k most probable.
///
/// * Law: `pi(v) = q(v) [v among the k] + eta r(v)`, r being the expert's distribution among the k, as sampled, and
///   eta the drafter's mass on all other tokens. Ties with the k-th stay. Exact with respect to that law, and
///   never the expert's at temperatures above 0; with k = 1 the text is greedy.
///
/// Source: the acceptance test of several engines; the tolerance of Xia et al., "Speculative Decoding", 2022,
/// without its second condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct TopKAcceptance {
    /// How many tokens stand, from 1.
    pub k: usize,
}

const K: Dial = Dial {
    whole: true,
    ..Dial::new("k", "how many of the expert's most probable tokens stand", 3.0)
        .within(1.0, 4_294_967_295.0, "a whole number from 1")
        .sweeping(&[1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 10.0, 20.0, 50.0, 200.0])
};

pub(crate) const INFO: RuleInfo = RuleInfo {
    name: "top-k",
    kind: Kind::Lossy,
    about: "the drafter decides over the expert's k most probable tokens",
    dials: &[K],
    make: |values| Arc::new(TopKAcceptance { k: at(values, 0, &K) as usize }),
};

impl KeepRule for TopKAcceptance {
    fn name(&self) -> &'static str {
        INFO.name
    }

    fn kept<'a>(&self, _draft: &'a Scores, expert: &'a Scores) -> Kept<'a> {
        Kept::Raw(expert, expert.raw_kth(self.k.max(1)))
    }

    fn settings(&self) -> Vec<(&'static Dial, f64)> {
        vec![(&K, self.k as f64)]
    }

    fn kind(&self) -> Kind {
        INFO.kind
    }

    fn otherwise<'a>(&self, expert: &'a Scores) -> Cow<'a, Probs> {
        super::truncated(expert, expert.raw_kth(self.k.max(1)))
    }

    fn otherwise_prob(&self, _token: TokenId, _expert: &Scores) -> f64 {
        0.0 // what is not kept is not among the k
    }
}
