use super::TreeShape;

/// The tree with the most expected tokens, by its nodes and its depth.
///
/// A child of rank `b` stands with probability `P[b]`, whatever stands above it. With `T[m, l]` the most tokens a
/// subtree of `m` nodes, its root among them, and `l` levels is expected to bring,
///
/// `T[m, l] = 1 + max over b of F[m - 1, l - 1, b]`, `F[n, l, b] = max over y of F[n - y, l, b - 1] + P[b] T[y, l]`,
/// where `F[n, l, b]` is what `n` nodes bring below a point with `b` children.
///
/// Source: Chen et al., "Sequoia: Scalable, Robust, and Hardware-aware Speculative Decoding", 2024, section 3.1.
#[derive(Clone, Debug)]
pub struct BestTree {
    levels: Vec<Level>,
}

/// What `n` nodes bring below a point, in so many levels.
#[derive(Clone, Debug)]
struct Level {
    /// `[b][n]`: where the point has `b` children; and how many of the nodes the last of them has, itself among them.
    children: Vec<Vec<(f64, usize)>>,
    /// `[n]`: at best, and with how many children.
    best: Vec<(f64, usize)>,
}

impl Level {
    fn new(ranks: &[f64], nodes: usize, below: Option<&Self>) -> Self {
        let mut children = vec![vec![(0.0, 0); nodes + 1]];
        for (rank, &stands) in ranks.iter().enumerate().take_while(|_| below.is_some()) {
            let (before, below) = (&children[rank], below.map_or(&[][..], |below| &below.best));
            let best = |n: usize| {
                (1..=n).fold((f64::NEG_INFINITY, 0), |best, own| {
                    let gain = before[n - own].0 + stands * (1.0 + below[own - 1].0);
                    if gain > best.0 { (gain, own) } else { best }
                })
            };
            let row = (0..=nodes).map(best).collect();
            children.push(row);
        }
        let fewest = |n: usize| {
            let gains = children.iter().map(|row: &Vec<(f64, usize)>| row[n].0).enumerate();
            gains.fold((0.0, 0), |best, (count, gain)| if gain > best.0 { (gain, count) } else { best })
        };
        Self { best: (0..=nodes).map(fewest).collect(), children }
    }
}

impl BestTree {
    /// Trees of up to `nodes` nodes and `depth` levels, where a child of each rank stands with these probabilities.
    pub fn new(ranks: &[f64], nodes: usize, depth: usize) -> Self {
        let mut levels = vec![Level::new(ranks, nodes, None)];
        for _ in 0..depth {
            levels.push(Level::new(ranks, nodes, levels.last()));
        }
        Self { levels }
    }

    /// Tokens a round is expected to bring with the best tree of up to `nodes` nodes and `depth` levels, the token after
    /// the path included.
    ///
    /// # Panics
    ///
    /// If that is more than was asked for.
    pub fn tokens(&self, nodes: usize, depth: usize) -> f64 {
        1.0 + self.levels[depth].best[nodes].0
    }

    /// The best tree of up to `nodes` nodes and `depth` levels; `None` where no node is worth anything.
    ///
    /// # Panics
    ///
    /// If that is more than was asked for.
    pub fn shape(&self, nodes: usize, depth: usize) -> Option<TreeShape> {
        let mut parents = Vec::new();
        // What is to be placed below each point of a level: nodes, and levels left.
        let mut level = vec![(None, nodes)];
        for depth in (1..=depth).rev() {
            let mut next = Vec::new();
            for (parent, nodes) in level {
                for below in self.children(nodes, depth) {
                    next.push((Some(parents.len()), below));
                    parents.push(parent);
                }
            }
            level = next;
        }
        TreeShape::fixed(&parents).ok()
    }

    /// How many nodes come below each child of a point.
    fn children(&self, nodes: usize, depth: usize) -> Vec<usize> {
        let level = &self.levels[depth];
        let (mut left, mut children) = (nodes, Vec::new());
        for rank in (1..=level.best[nodes].1).rev() {
            let own = level.children[rank][left].1;
            children.push(own - 1);
            left -= own;
        }
        children.reverse();
        children
    }

    /// The shape with the least time a token: `draft` is the time of a level of drafting, and `verify[m]` that of a pass
    /// of the expert over `m + 1` rows, in any one unit; and how much faster it is than decoding without drafts. `None`
    /// where no tree is faster.
    ///
    /// Source: the same, section 3.3.
    pub fn fastest(&self, draft: f64, verify: &[f64]) -> Option<(TreeShape, f64)> {
        let plain = *verify.first()?;
        let depths = 1..self.levels.len();
        let sizes = 1..verify.len().min(self.levels[0].best.len());
        let all = depths.flat_map(|depth| sizes.clone().map(move |nodes| (nodes, depth)));
        let speed = |(nodes, depth): (usize, usize)| {
            plain * self.tokens(nodes, depth) / (depth as f64 * draft + verify[nodes])
        };
        let best = all.fold(None, |best: Option<((usize, usize), f64)>, at| {
            let speed = speed(at);
            if speed > best.map_or(1.0, |best| best.1) { Some((at, speed)) } else { best }
        });
        let ((nodes, depth), speed) = best?;
        Some((self.shape(nodes, depth)?, speed))
    }
}
