use super::{BestTree, Ranked, TreeShape};

/// How likely the first, second, third child of a point stands, learned from verdicts.
///
/// Each rank counts how often a child of it was there at a point that was looked at, and how often it stood. Two
/// observations that are imagined, of which half a one stood for the first rank and less for later ones, keep the
/// estimates away from 0 and 1 while little was seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RankAcceptance {
    there: Vec<u64>,
    stood: Vec<u64>,
}

/// Weight of what is imagined, in observations.
const PRIOR: f64 = 2.0;

impl RankAcceptance {
    /// Takes note of points that were looked at.
    pub fn observe(&mut self, points: &[Ranked]) {
        for point in points {
            let ranks = self.there.len().max(point.children);
            self.there.resize(ranks, 0);
            self.stood.resize(ranks, 0);
            self.there[..point.children].iter_mut().for_each(|there| *there += 1);
            if let Some(stood) = point.stands.and_then(|rank| self.stood.get_mut(rank)) {
                *stood += 1;
            }
        }
    }

    /// The probabilities of `ranks` ranks; their sum is at most 1.
    pub fn probabilities(&self, ranks: usize) -> Vec<f64> {
        let of = |rank: usize| {
            let at = |counts: &[u64]| counts.get(rank).copied().unwrap_or(0) as f64;
            let imagined = 0.5f64.powi(i32::try_from(rank).unwrap_or(i32::MAX).saturating_add(1));
            (at(&self.stood) + PRIOR * imagined) / (at(&self.there) + PRIOR)
        };
        let all: Vec<f64> = (0..ranks).map(of).collect();
        // Ranks were seen at different points, and so need not add up.
        let sum = all.iter().sum::<f64>().max(1.0);
        all.into_iter().map(|p| p / sum).collect()
    }

    /// The tree of up to `children` children a point and `depth` levels with the least time a token, and how much faster
    /// it is than no drafts: [`BestTree::fastest`] for what was learned.
    pub fn fastest(
        &self,
        children: usize,
        depth: usize,
        draft: f64,
        verify: &[f64],
    ) -> Option<(TreeShape, f64)> {
        let nodes = verify.len().saturating_sub(1);
        BestTree::new(&self.probabilities(children), nodes, depth).fastest(draft, verify)
    }

    /// Points that were looked at.
    pub fn points(&self) -> u64 {
        self.there.first().copied().unwrap_or(0)
    }

    /// Adds what was seen elsewhere.
    pub fn merge(&mut self, other: &Self) {
        let ranks = self.there.len().max(other.there.len());
        self.there.resize(ranks, 0);
        self.stood.resize(ranks, 0);
        self.there.iter_mut().zip(&other.there).for_each(|(a, b)| *a += b);
        self.stood.iter_mut().zip(&other.stood).for_each(|(a, b)| *a += b);
    }
}
