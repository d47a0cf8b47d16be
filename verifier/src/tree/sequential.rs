use super::candidates::stands;
use drafthorse_logits::{Draws, Probs, Purpose, TokenId};

/// K-SEQ: one test for all of several tokens that were drawn from a draft independently of each other.
///
/// Each stands with `min(1, p / (rho q))`, the first that does is kept; if none does, the token comes from
/// `norm(p - min(q, p / rho) a / beta)`, where `beta = sum(min(q, p / rho))` is how likely one stands and
/// `a = 1 - (1 - beta)^k` how likely any does. `rho` in `[1, k]` solves `a = rho beta`.
///
/// Source: Sun et al., "`SpecTr`: Fast Speculative Decoding via Optimal Transport", 2023, Algorithm 3.
#[derive(Clone, Debug)]
pub struct SequentialTest<'a> {
    draft: &'a Probs,
    target: &'a Probs,
    rho: f64,
    beta: f64,
    any: f64,
}

impl<'a> SequentialTest<'a> {
    /// The test for `tokens` tokens.
    ///
    /// # Panics
    ///
    /// If the vocabularies differ.
    pub fn new(draft: &'a Probs, target: &'a Probs, tokens: usize) -> Self {
        let beta = |rho: f64| draft.sum_with(target, |q, p| q.min(p / rho)).clamp(0.0, 1.0);
        let any = |beta: f64| 1.0 - (1.0 - beta).powi(i32::try_from(tokens).unwrap_or(i32::MAX));
        let (mut low, mut high) = (1.0, tokens.max(1) as f64);
        // With one token, or where q is p, `rho` is 1.
        while high - low > f64::EPSILON * high {
            let middle = f64::midpoint(low, high);
            if middle <= low || middle >= high {
                break;
            }
            let beta = beta(middle);
            if any(beta) > middle * beta { low = middle } else { high = middle }
        }
        let beta = beta(high);
        Self { draft, target, rho: high, beta, any: any(beta) }
    }

    /// By how much a token is held to be less probable than it is.
    pub fn rho(&self) -> f64 {
        self.rho
    }

    /// How likely one token stands.
    pub fn beta(&self) -> f64 {
        self.beta
    }

    /// How likely any of them stands.
    pub fn any(&self) -> f64 {
        self.any
    }

    /// How likely `token` stands.
    pub fn acceptance(&self, token: TokenId) -> f64 {
        let (p, q) = (self.target.get(token) / self.rho, self.draft.get(token));
        if p < q { p / q } else { 1.0 }
    }

    /// The law of what comes where none stands; `None` where that is as good as impossible.
    pub fn residual(&self) -> Option<Probs> {
        if self.beta <= 0.0 {
            return Some(self.target.clone());
        }
        let (p, q, taken) = (self.target.row(), self.draft.row(), self.any / self.beta);
        let left = p.iter().zip(q.iter()).map(|(p, q)| (p - q.min(p / self.rho) * taken).max(0.0));
        // What rounding leaves where the tokens cover the target is no law.
        let left: Vec<f64> = left.collect();
        if left.iter().sum::<f64>() > 1e-13 { Probs::normalize(left) } else { None }
    }

    pub(super) fn decide(
        &self,
        tokens: &[TokenId],
        position: usize,
        draws: &mut dyn Draws,
    ) -> Result<usize, TokenId> {
        let mut all = tokens.iter().enumerate();
        let kept = all.find(|(index, token)| stands(self.acceptance(**token), position, *index, draws));
        if let Some((index, _)) = kept {
            return Ok(index);
        }
        let residual = self.residual();
        Err(draws.pick(position, Purpose::Replacement, residual.as_ref().unwrap_or(self.target)))
    }
}
