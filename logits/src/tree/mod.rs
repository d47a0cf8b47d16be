//! Trees of drafts: what is proposed where several tokens compete for a position.

mod acceptance;
mod best;
mod remaining;
mod shape;

pub use acceptance::RankAcceptance;
pub use best::BestTree;
pub use shape::{ShapeError, TreePlan, TreeShape};

use crate::{Origin, Proposal, Scores, TokenId, Verdict};

/// How the children of a point were proposed, which decides how they are judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Branching {
    /// Chosen for what the drafter said, with no randomness: its most probable tokens, for example. Each is judged as
    /// if it had been certain.
    #[default]
    TopChildren,
    /// Drawn independently of each other from the drafter's distribution; the same token may come again.
    WithReplacement,
    /// Drawn one after another from the drafter's distribution without those drawn before; where nothing is left of
    /// it, from all other tokens alike.
    WithoutReplacement,
    /// Drawn as [`WithReplacement`](Self::WithReplacement), and judged by one test for all (K-SEQ).
    Sequential,
}

impl Branching {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::TopChildren, Self::WithReplacement, Self::WithoutReplacement, Self::Sequential];

    /// Its name on command lines and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::TopChildren => "top-children",
            Self::WithReplacement => "with-replacement",
            Self::WithoutReplacement => "without-replacement",
            Self::Sequential => "sequential",
        }
    }

    /// Whether children are drawn at random.
    pub fn is_drawn(self) -> bool {
        self != Self::TopChildren
    }

    /// Whether a token can come twice among the children of a point.
    fn repeats(self) -> bool {
        matches!(self, Self::WithReplacement | Self::Sequential)
    }
}

impl std::str::FromStr for Branching {
    type Err = ShapeError;

    fn from_str(name: &str) -> Result<Self, ShapeError> {
        let known = Self::ALL.into_iter().find(|branching| branching.name() == name);
        known.ok_or_else(|| ShapeError::Branching { found: name.to_owned() })
    }
}

/// A tree of drafted tokens, and what the drafter thought of each.
///
/// A *point* is a place where a token can come: point 0 is after the sequence, point `i + 1` after node `i`. A chain
/// of drafts is the tree in which every point has one child.
///
/// # Shapes
///
/// `tokens` and `parents` have an entry a node, `scores` one a point, which is one more.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct DraftTree {
    /// How children were proposed.
    pub branching: Branching,
    /// The token of each node.
    pub tokens: Vec<TokenId>,
    /// The node before each node, which comes earlier in the list; `None` is the end of the sequence. The children of a
    /// point are judged in the order of the list.
    pub parents: Vec<Option<usize>>,
    /// What the drafter says at each point: from it its children were proposed, if it has any. `None` where it was not
    /// asked, which is for points without children alone.
    pub scores: Vec<Option<Scores>>,
}

/// How a tree can break its contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Lists whose lengths do not go together.
    #[error(
        "a tree of {tokens} tokens has {parents} parents and {scores} places for scores; one parent a token is needed, and scores for one point more"
    )]
    Lengths {
        /// Tokens of the tree.
        tokens: usize,
        /// Entries of its parents.
        parents: usize,
        /// Entries of its scores.
        scores: usize,
    },
    /// A node before its parent.
    #[error("node {node} of a tree has node {parent} as parent; parents come before their children")]
    Order {
        /// The node.
        node: usize,
        /// Its parent.
        parent: usize,
    },
    /// More tokens in a row than were asked for.
    #[error("a tree is {depth} tokens deep, at most {max} were asked for (`DraftRequest::max`)")]
    TooDeep {
        /// Depth of the tree.
        depth: usize,
        /// Depth asked for.
        max: usize,
    },
    /// Children without what they were proposed from.
    #[error("point {point} of a tree has children and no scores; hand over what they were proposed from")]
    Unscored {
        /// The point.
        point: usize,
    },
    /// A row of scores has another vocabulary than the expert.
    #[error(
        "point {point} of a tree has scores of {found} tokens, the expert's vocabulary has {expected} (`DraftRequest::vocab`)"
    )]
    Vocabulary {
        /// The point.
        point: usize,
        /// Length of the drafter's row.
        found: usize,
        /// Size of the expert's vocabulary.
        expected: usize,
    },
    /// A token outside the vocabulary.
    #[error("node {node} of a tree is token {token}, the vocabulary has {vocab}")]
    Token {
        /// The node.
        node: usize,
        /// Its token.
        token: TokenId,
        /// Size of the expert's vocabulary.
        vocab: usize,
    },
    /// A token that cannot have been drawn as the tree says.
    #[error(
        "node {node} of a tree, token {token}, cannot have been drawn from the scores of its point; draw it from them, or say that children are chosen (`Branching::TopChildren`)"
    )]
    Impossible {
        /// The node.
        node: usize,
        /// Its token.
        token: TokenId,
    },
    /// A token twice among the children of a point where that cannot be.
    #[error(
        "node {node} of a tree, token {token}, is among the children of its point already; only children drawn with replacement may repeat"
    )]
    Repeated {
        /// The node.
        node: usize,
        /// Its token.
        token: TokenId,
    },
}

impl DraftTree {
    /// A tree of no nodes, with what the drafter says after the sequence if it was asked.
    pub fn new(branching: Branching, root: Option<Scores>) -> Self {
        Self { branching, tokens: Vec::new(), parents: Vec::new(), scores: vec![root] }
    }

    /// The tree in which every point has one child.
    pub fn chain(proposal: Proposal) -> Self {
        let Proposal { tokens, scores } = proposal;
        let parents = (0..tokens.len()).map(|node| node.checked_sub(1)).collect();
        let mut scores: Vec<_> = scores.into_iter().map(Some).collect();
        scores.resize(tokens.len() + 1, None);
        Self { branching: Branching::WithoutReplacement, tokens, parents, scores }
    }

    /// Adds a node below a point, with no scores after it yet; returns its index.
    pub fn push(&mut self, point: usize, token: TokenId) -> usize {
        self.tokens.push(token);
        self.parents.push(point.checked_sub(1));
        self.scores.push(None);
        self.tokens.len() - 1
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The nodes that compete for a point, in the order in which they are judged.
    pub fn children(&self, point: usize) -> impl Iterator<Item = usize> + '_ {
        let parent = point.checked_sub(1);
        let below = self.parents.iter().enumerate().skip(point);
        below.filter(move |(_, of)| **of == parent).map(|(node, _)| node)
    }

    /// The nodes from the root to a point, in order: none for point 0.
    pub fn path(&self, point: usize) -> Vec<usize> {
        let above = |node: &usize| self.parents[*node];
        let mut path: Vec<_> = std::iter::successors(point.checked_sub(1), above).collect();
        path.reverse();
        path
    }

    /// How many tokens stand between the sequence and what comes at a point.
    pub fn depth_of(&self, point: usize) -> usize {
        std::iter::successors(point.checked_sub(1), |node| self.parents[*node]).count()
    }

    /// The most tokens in a row.
    pub fn depth(&self) -> usize {
        let mut depths = Vec::with_capacity(self.len());
        for parent in &self.parents {
            depths.push(parent.map_or(1, |parent| depths[parent] + 1));
        }
        depths.into_iter().max().unwrap_or(0)
    }

    /// Checks the contract of a drafter that was asked for up to `max` tokens in a row.
    ///
    /// # Errors
    ///
    /// The first clause that is broken.
    pub fn check(&self, vocab: usize, max: usize) -> Result<(), TreeError> {
        let (tokens, parents, scores) = (self.tokens.len(), self.parents.len(), self.scores.len());
        if parents != tokens || scores != tokens + 1 {
            return Err(TreeError::Lengths { tokens, parents, scores });
        }
        let late = self.parents.iter().enumerate().find_map(|(node, parent)| {
            let parent = parent.filter(|parent| *parent >= node)?;
            Some(TreeError::Order { node, parent })
        });
        late.map_or(Ok(()), Err)?;
        let depth = self.depth();
        if depth > max {
            return Err(TreeError::TooDeep { depth, max });
        }
        for (point, row) in self.scores.iter().enumerate() {
            let found = row.as_ref().map_or(vocab, Scores::vocab_size);
            if found != vocab {
                return Err(TreeError::Vocabulary { point, found, expected: vocab });
            }
        }
        (0..scores).try_for_each(|point| self.check_children(point, vocab))
    }

    fn check_children(&self, point: usize, vocab: usize) -> Result<(), TreeError> {
        let mut before: Vec<TokenId> = Vec::new();
        for node in self.children(point) {
            let token = self.tokens[node];
            let Some(row) = &self.scores[point] else { return Err(TreeError::Unscored { point }) };
            if token as usize >= vocab {
                return Err(TreeError::Token { node, token, vocab });
            }
            if before.contains(&token) && !self.branching.repeats() {
                return Err(TreeError::Repeated { node, token });
            }
            if self.branching.is_drawn() && row.prob(token) <= 0.0 {
                // Another token comes only after all that the drafter could say.
                let rest = if self.branching.repeats() { None } else { row.probs().without(&before) };
                if rest.is_none_or(|rest| rest.get(token) <= 0.0) {
                    return Err(TreeError::Impossible { node, token });
                }
            }
            before.push(token);
        }
        Ok(())
    }
}

/// What became of a tree: the nodes that stand, from the root on, then a token.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct TreeVerdict {
    /// The nodes that stand, each a child of the one before.
    pub path: Vec<usize>,
    /// The token after them.
    pub next: TokenId,
    /// Where it comes from: a replacement where all children of the last point were refused, and a bonus where there
    /// were none.
    pub origin: Origin,
}

impl TreeVerdict {
    /// The last point: where the token after the path comes.
    pub fn point(&self) -> usize {
        self.path.last().map_or(0, |node| node + 1)
    }

    /// The same as the verdict on a chain that consists of the path, and of a refused token if there was one. A position
    /// counts as examined once, however many children it had.
    pub fn as_chain(&self) -> Verdict {
        Verdict { accepted: self.path.len(), next: self.next, origin: self.origin }
    }

    /// How many children each examined point had, and which of them stands.
    pub fn ranks(&self, tree: &DraftTree) -> Vec<Ranked> {
        let mut point = 0;
        let mut ranks = Vec::with_capacity(self.path.len() + 1);
        for node in self.path.iter().map(Some).chain([None]) {
            let children: Vec<_> = tree.children(point).collect();
            if children.is_empty() {
                break;
            }
            let stands = node.and_then(|node| children.iter().position(|child| child == node));
            ranks.push(Ranked { children: children.len(), stands });
            point = node.map_or(0, |node| node + 1);
        }
        ranks
    }
}

/// What became of the children of a point that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs)]
pub struct Ranked {
    /// How many there were.
    pub children: usize,
    /// Which of them stands, from 0; `None` where all were refused.
    pub stands: Option<usize>,
}

#[cfg(test)]
mod tests;
