//! Whether a round drafts a tree in place of a chain, and which.

use super::{
    controller::{Controller, MARGIN, Plan},
    costs::Costs,
    gauge::Curve,
    learning::Outcome,
};
use drafthorse_logits::{RankAcceptance, Ranked, TreeShape};

/// Rounds with drafts between two decisions.
const DECIDE_EVERY: u32 = 8;
/// Rounds with drafts between two that draft the other way than is believed to be best.
const OTHER_EVERY: u32 = 16;
/// Trees that are drafted before it is decided whether they pay.
const TRIES: u32 = 6;
/// About so many tokens are remembered of how right predictions were.
const MEMORY: f64 = 64.0;
/// Tokens of which it is believed that a prediction was right.
const BELIEF: f64 = 8.0;

/// The trees among which it may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choices {
    pub(crate) nodes: usize,
    pub(crate) depth: usize,
    pub(crate) children: usize,
    /// Whether the drafter itself knows best which nodes of how many.
    pub(crate) by_drafter: bool,
}

/// What became of a tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TreeOutcome<'a> {
    pub(crate) depth: usize,
    pub(crate) ranks: &'a [Ranked],
}

/// What is known of trees.
#[derive(Clone, Debug)]
pub(super) struct Trees {
    choices: Choices,
    ranks: RankAcceptance,
    /// Drafting by levels, in plain rounds.
    draft: Curve,
    /// The best tree, and the tokens a second it promises; `None` where a chain is better.
    best: Option<(TreeShape, f64)>,
    rounds: u32,
    tried: u32,
    /// Tokens of rounds with the best tree, and those that had been promised for their time.
    kept: (f64, f64),
}

impl Trees {
    pub(super) fn new(choices: Choices) -> Self {
        Self {
            choices,
            ranks: RankAcceptance::default(),
            draft: Curve::new(None),
            best: None,
            rounds: 0,
            tried: 0,
            kept: (0.0, 0.0),
        }
    }

    /// Seconds to draft so many levels.
    pub(super) fn draft(&self, depth: usize, costs: &Costs) -> f64 {
        self.draft.at(depth).map_or_else(|| costs.draft(depth), |share| share * costs.round(0))
    }

    /// What is drafted in the next round that drafts, where a chain gives `chain` tokens a second at best.
    fn next(&mut self, costs: &Costs, chain: f64) -> Option<TreeShape> {
        if self.rounds.is_multiple_of(DECIDE_EVERY) && self.tried >= TRIES {
            self.best = self.decide(costs, chain);
        }
        self.rounds += 1;
        let other = self.rounds.is_multiple_of(OTHER_EVERY);
        let tries = self.tried < TRIES && self.rounds.is_multiple_of(2);
        match &self.best {
            Some((best, _)) => (!other).then(|| best.clone()),
            None => (other || tries).then(|| self.small()).flatten(),
        }
    }

    /// A tree to begin with.
    fn small(&self) -> Option<TreeShape> {
        let Choices { nodes, depth, children, by_drafter } = self.choices;
        if by_drafter {
            return Some(TreeShape::Best { nodes: nodes.min(8), depth, children });
        }
        let wide = children.min(2);
        let levels = if depth > 1 && nodes >= 2 * wide { vec![wide, 1] } else { vec![wide.min(nodes)] };
        TreeShape::levels(&levels).ok()
    }

    /// The tree with the least time a token, if that is less than a chain's.
    fn decide(&self, costs: &Costs, chain: f64) -> Option<(TreeShape, f64)> {
        let Choices { nodes, depth, children, by_drafter } = self.choices;
        let verify: Vec<_> = (1..=nodes + 1).map(|rows| costs.rest(rows)).collect();
        let known = self.draft.known().last().map_or(1, |(depth, _)| depth.max(1));
        let level = self.draft(known, costs) / known as f64;
        let (shape, speed) = self.ranks.fastest(children, depth, level, &verify)?;
        let right = (self.kept.0 + BELIEF) / (self.kept.1 + BELIEF);
        let rate = right * speed / verify[0];
        let nodes = shape.nodes();
        // A chain is better drafted as one, which ends where the drafter is not sure.
        let branches = nodes > shape.depth();
        let shape = if by_drafter { TreeShape::Best { nodes, depth, children } } else { shape };
        (branches && rate > MARGIN * chain).then_some((shape, rate))
    }

    /// Learns from a round with a tree that took so many seconds of drafting, and so many as a whole.
    pub(super) fn learn(
        &mut self,
        tree: TreeOutcome<'_>,
        tokens: usize,
        (draft, took): (f64, f64),
        plain: f64,
    ) {
        self.tried += 1;
        self.ranks.observe(tree.ranks);
        if plain > 0.0 {
            self.draft.add(tree.depth, draft / plain);
        }
        if let Some((_, rate)) = &self.best {
            let stays = 1.0 - tokens as f64 / MEMORY;
            self.kept = (stays * self.kept.0 + tokens as f64, stays * self.kept.1 + rate * took);
        }
    }
}

impl Controller {
    /// The same plan, with a tree where one is to be drafted.
    pub(crate) fn with_tree(&mut self, plan: Plan) -> Plan {
        if plan.max == 0 {
            return plan;
        }
        let Some(mut trees) = self.trees.take() else { return plan };
        let chain = self.rates(self.max).into_iter().fold(0.0, f64::max);
        let tree = trees.next(&self.costs, chain).filter(|shape| {
            let round = self.costs.rest(shape.nodes() + 1) + trees.draft(shape.depth(), &self.costs);
            self.account.affords(round - self.costs.round(0), self.costs.round(0))
        });
        self.trees = Some(trees);
        Plan { tree, ..plan }
    }

    /// Learns what a round with a tree cost, apart from what all rounds teach.
    pub(super) fn learn_tree(&mut self, tree: TreeOutcome<'_>, outcome: &Outcome<'_>) {
        let times = outcome.times;
        self.costs.learn(1 + outcome.drafted, None, outcome.lag, times);
        let plain = self.costs.round(0);
        if let Some(trees) = &mut self.trees {
            trees.learn(tree, outcome.accepted + 1, (times.draft, times.draft + times.rest), plain);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::length::{DraftCosts, controller::Rows, costs::Times};
    use crate::{Adaptive, length::Why};

    fn controller(verify: Vec<(usize, f64)>, by_drafter: bool) -> Controller {
        let costs = DraftCosts::new(verify, vec![(1, 0.05)]).with_acceptance(vec![0.6; 4]);
        let mut controller = Controller::new(&Adaptive::up_to(4).starting_from(costs), Rows::Away);
        let choices = Choices { nodes: 16, depth: 4, children: 3, by_drafter };
        controller.trees = Some(Trees::new(choices));
        controller
    }

    /// Rounds of a drafter whose first child stands 6 times of 10, and whose second and third 2 and 1 times; how many
    /// of the last drafted trees, and how many tokens and plain rounds all took.
    fn play(controller: &mut Controller, rounds: usize, cost: impl Fn(usize) -> f64) -> (usize, f64, f64) {
        let (mut trees, mut tokens, mut seconds, mut random) = (0, 0.0, 0.0, 1_u64);
        for round in 0..rounds {
            let plan = controller.plan(99, 0);
            let plan = controller.with_tree(plan);
            let mut rank = || {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                [0, 0, 0, 0, 0, 0, 1, 1, 2, 9][(random >> 40) as usize % 10]
            };
            let shape = match &plan.tree {
                Some(TreeShape::Best { .. }) => TreeShape::levels(&[3, 1]).ok(),
                Some(shape) => Some(shape.clone()),
                None => TreeShape::chain(plan.max).ok(),
            };
            let parents = shape.as_ref().and_then(TreeShape::parents).unwrap_or_default();
            let (mut at, mut ranks, mut accepted) = (None, Vec::new(), 0);
            loop {
                let below: Vec<_> = (0..parents.len()).filter(|node| parents[*node] == at).collect();
                if below.is_empty() {
                    break;
                }
                let stands = Some(rank()).filter(|rank| *rank < below.len());
                ranks.push(Ranked { children: below.len(), stands });
                let Some(stands) = stands else { break };
                (at, accepted) = (Some(below[stands]), accepted + 1);
            }
            let depth = shape.as_ref().map_or(0, TreeShape::depth);
            let times = Times { draft: 0.05 * depth as f64, rest: cost(parents.len() + 1) };
            let tree = plan.tree.as_ref().map(|_| TreeOutcome { depth, ranks: &ranks });
            let (drafted, examined) = (parents.len(), ranks.len());
            let (confidences, offers) = (&[][..], None);
            let outcome =
                Outcome { drafted, examined, accepted, forced: 0, lag: 0, times, confidences, offers, tree };
            controller.learn(&plan, &outcome);
            trees += usize::from(plan.tree.is_some() && round >= rounds / 2);
            assert!(plan.tree.is_none() || plan.why != Why::Plain && plan.max > 0);
            (tokens, seconds) = (tokens + accepted as f64 + 1.0, seconds + times.draft + times.rest);
        }
        (trees, tokens, seconds)
    }

    /// Where rows are as good as free, a tree wins; where they are dear, the chain does.
    #[test]
    fn trees_are_drafted_where_they_pay() {
        for by_drafter in [false, true] {
            let free = |rows: usize| 1.0 + 0.002 * rows as f64;
            let mut cheap = controller(vec![(1, 1.002), (17, 1.034)], by_drafter);
            let (trees, tokens, seconds) = play(&mut cheap, 600, free);
            assert!(trees > 240, "{trees} of 300, {by_drafter}");
            assert!(by_drafter || tokens / seconds > 2.2, "{}", tokens / seconds);
            let dear = |rows: usize| 0.75 + 0.25 * rows as f64;
            let mut dear_rows = controller(vec![(1, 1.0), (5, 2.0)], by_drafter);
            let (trees, tokens, seconds) = play(&mut dear_rows, 600, dear);
            assert!(trees < 30, "{trees} of 300, {by_drafter}");
            assert!(tokens / seconds > 0.99, "{}", tokens / seconds);
        }
    }

    #[test]
    fn the_first_tree_is_small() {
        let small = |nodes, depth, children| {
            let choices = Choices { nodes, depth, children, by_drafter: false };
            Trees::new(choices).small().map(|shape| shape.to_string())
        };
        assert_eq!(small(16, 6, 3).as_deref(), Some("2x1"));
        assert_eq!(small(3, 6, 3).as_deref(), Some("2"));
        assert_eq!(small(1, 1, 3).as_deref(), Some("1"));
        assert_eq!(small(9, 9, 1).as_deref(), Some("1x1"));
    }
}
