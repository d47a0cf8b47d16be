//! What one row says.

use super::{Belief, Candidate, Histogram, LensCell, Look};
use drafthorse_logits::{Scores, TokenId, largest};

/// The text of a token by itself.
pub(super) type Name<'a> = dyn Fn(TokenId) -> String + 'a;

/// What a model says where `token` came, given its row of logits and what the sampler makes of it.
pub(super) fn belief(scores: &Scores, row: &[f32], token: TokenId, look: &Look, name: &Name<'_>) -> Belief {
    let probs = scores.raw().row();
    let probability = scores.raw_prob(token);
    Belief {
        probability,
        log_prob: (probability > 0.0).then(|| probability.ln()),
        sampled_probability: scores.prob(token),
        rank: 1 + probs.iter().filter(|p| **p > probability).count(),
        entropy: scores.raw_entropy().max(0.0),
        max_probability: scores.raw_max(),
        candidates: candidates(&probs, look.candidates, name),
        histogram: histogram(row, token, look.bins),
    }
}

/// The most probable tokens, best first, the lower id among equals.
fn candidates(probs: &[f64], count: usize, name: &Name<'_>) -> Vec<Candidate> {
    let best = largest(probs, count).into_iter();
    best.map(|(id, probability)| Candidate { id, name: name(id), probability }).collect()
}

fn histogram(row: &[f32], token: TokenId, bins: usize) -> Histogram {
    let finite = || row.iter().copied().filter(|logit| logit.is_finite());
    let low = finite().fold(f32::INFINITY, f32::min);
    let high = finite().fold(f32::NEG_INFINITY, f32::max);
    let mut counts = vec![0; bins.max(1)];
    // A row of equal logits has no width.
    let scale = counts.len() as f32 / (high - low).max(f32::MIN_POSITIVE);
    for logit in finite() {
        let bin = (((logit - low) * scale) as usize).min(counts.len() - 1);
        counts[bin] += 1;
    }
    let excluded = row.len() - finite().count();
    let token = row.get(token as usize).copied().filter(|logit| logit.is_finite());
    Histogram { low, high, counts, token, excluded }
}

/// What the model thinks after a layer.
pub(super) fn lens_cell(scores: &Scores, token: TokenId, name: &Name<'_>) -> LensCell {
    let (id, probability) = scores.raw().max();
    LensCell { id, name: name(id), probability, token_probability: scores.raw_prob(token) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drafthorse_logits::{Context, Sampler, SamplingOptions};

    fn of(row: &[f32], temperature: f32, token: TokenId, look: &Look) -> Belief {
        let options = SamplingOptions { temperature, ..SamplingOptions::default() };
        let sampler = Sampler::new(&options).expect("in range");
        let scores = sampler.scores(&Context::new(&[0], 1), row).expect("a law");
        belief(&scores, row, token, look, &|id| format!("<{id}>"))
    }

    #[test]
    fn a_row_in_closed_form() {
        let row = [1f32, 4.0, 2.0, 1.0, 0.0].map(f32::ln); // 1/8, 4/8, 2/8, 1/8, never
        let look = Look { candidates: 3, bins: 4, ..Look::default() };
        let belief = of(&row, 0.0, 2, &look);
        assert!((belief.probability - 0.25).abs() < 1e-7);
        assert!((belief.log_prob.expect("possible") - 0.25f64.ln()).abs() < 1e-7);
        assert_eq!((belief.sampled_probability, belief.rank), (0.0, 2), "greedy decoding says another");
        assert!((belief.entropy - 1.75 * std::f64::consts::LN_2).abs() < 1e-7);
        assert!((belief.max_probability - 0.5).abs() < 1e-7);
        let found: Vec<_> = belief.candidates.iter().map(|c| (c.id, c.name.as_str())).collect();
        assert_eq!(found, [(1, "<1>"), (2, "<2>"), (0, "<0>")], "the lower id among equals");
        assert_eq!((&belief.histogram.counts[..], belief.histogram.excluded), (&[2, 0, 1, 1][..], 1));
        assert_eq!((belief.histogram.low, belief.histogram.high), (0.0, 4f32.ln()));
        assert_eq!(belief.histogram.token, Some(2f32.ln()));
        let never = of(&row, 1.0, 4, &look);
        assert_eq!((never.log_prob, never.rank, never.histogram.token), (None, 5, None));
    }

    #[test]
    fn rows_without_width_and_shorter_than_the_list() {
        let belief = of(&[3.0; 2], 1.0, 1, &Look::default());
        assert_eq!(belief.candidates.len(), 2);
        assert_eq!(belief.histogram.counts.iter().sum::<u32>(), 2);
        assert!((belief.entropy - 2f64.ln()).abs() < 1e-12);
    }
}
