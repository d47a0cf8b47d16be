use super::Branching;
use std::{fmt, str::FromStr, sync::Arc};

/// Which tree is to be drafted, and how its children are proposed.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct TreePlan {
    /// How the children of a point are proposed.
    pub branching: Branching,
    /// How many there are, and where.
    pub shape: TreeShape,
}

/// The shape of a tree of drafts.
///
/// As text it is `3x2x1`, children a point from level to level, or `best:NODES:DEPTH:CHILDREN`.
///
/// ```
/// use drafthorse_logits::TreeShape;
///
/// let shape: TreeShape = "3x1".parse()?;
/// assert_eq!((shape.nodes(), shape.depth()), (6, 2));
/// assert_eq!(shape, TreeShape::levels(&[3, 1])?);
/// assert_eq!(TreeShape::chain(2)?, TreeShape::levels(&[1, 1])?);
/// # Ok::<(), drafthorse_logits::ShapeError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TreeShape {
    /// The same tree in every round: the parent of each node, level after level, `None` for the children of the root.
    /// The children of a node are its drafter's first, second and so on.
    Fixed(Arc<[Option<usize>]>),
    /// The `nodes` that are most probable by what the drafter says of all tokens of their path; for chosen children
    /// alone ([`Branching::TopChildren`]), since what is proposed here depends on the tokens themselves.
    ///
    /// Source: Li et al., "EAGLE-2", 2024, section 4.
    Best {
        /// Nodes of the tree.
        nodes: usize,
        /// The most tokens in a row.
        depth: usize,
        /// The most children of a node, and the most nodes of a level that get children.
        children: usize,
    },
}

/// Nodes a tree may have: what a pass of an expert can reasonably read at once.
const MOST: usize = 1024;

/// What is wrong with a shape.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// Nothing to draft.
    #[error("a tree of no nodes; at least 1 is needed, and plain decoding is a draft length of 0")]
    Empty,
    /// Too much to draft.
    #[error("a tree of {nodes} nodes; at most {MOST} are possible")]
    TooLarge {
        /// Nodes of the tree.
        nodes: usize,
    },
    /// Parents that are not level after level.
    #[error(
        "node {node} of a tree has a parent that is not in the level before its own; list level after level"
    )]
    Order {
        /// The node.
        node: usize,
    },
    /// A shape that looks at drawn tokens.
    #[error(
        "a tree of the best nodes needs chosen children (`top-children`), they are {branching}; give the shape as children a level, such as 3x2x1"
    )]
    Anticipating {
        /// How children are proposed.
        branching: &'static str,
    },
    /// A text that is no shape.
    #[error("`{found}` is no shape of a tree; children a level, such as 3x2x1, or best:NODES:DEPTH:CHILDREN")]
    Text {
        /// The text.
        found: String,
    },
    /// A text that is no way to propose children.
    #[error(
        "`{found}` is no way to propose children; there are top-children, with-replacement, without-replacement and sequential"
    )]
    Branching {
        /// The text.
        found: String,
    },
}

impl TreePlan {
    /// Chosen children in this shape.
    pub fn new(shape: TreeShape) -> Self {
        Self { branching: Branching::TopChildren, shape }
    }

    /// Whether the plan makes sense.
    ///
    /// # Errors
    ///
    /// A shape without nodes or with too many; one that depends on tokens that are drawn.
    pub fn check(&self) -> Result<(), ShapeError> {
        let (shape, branching) = (&self.shape, self.branching);
        if branching.is_drawn() && matches!(shape, TreeShape::Best { .. }) {
            return Err(ShapeError::Anticipating { branching: branching.name() });
        }
        shape.check()
    }
}

impl TreeShape {
    /// A tree by the parents of its nodes, level after level.
    ///
    /// # Errors
    ///
    /// No nodes, too many, or nodes out of order.
    pub fn fixed(parents: &[Option<usize>]) -> Result<Self, ShapeError> {
        let shape = Self::Fixed(parents.into());
        shape.check()?;
        Ok(shape)
    }

    /// One token after another.
    ///
    /// # Errors
    ///
    /// No tokens, or too many.
    pub fn chain(tokens: usize) -> Result<Self, ShapeError> {
        Self::levels(&vec![1; tokens.min(MOST + 1)])
    }

    /// So many children for each point of a level, from the root on.
    ///
    /// # Errors
    ///
    /// No nodes, or too many.
    pub fn levels(children: &[usize]) -> Result<Self, ShapeError> {
        let mut parents = Vec::new();
        let mut level = vec![None];
        for &count in children {
            let nodes = parents.len().saturating_add(level.len().saturating_mul(count));
            if nodes > MOST {
                return Err(ShapeError::TooLarge { nodes });
            }
            let first = parents.len();
            parents.extend(level.iter().flat_map(|parent| std::iter::repeat_n(*parent, count)));
            level = (first..parents.len()).map(Some).collect();
        }
        Self::fixed(&parents)
    }

    /// Nodes at most.
    pub fn nodes(&self) -> usize {
        match self {
            Self::Fixed(parents) => parents.len(),
            Self::Best { nodes, .. } => *nodes,
        }
    }

    /// Tokens in a row at most.
    pub fn depth(&self) -> usize {
        match self {
            Self::Fixed(parents) => depths(parents).into_iter().max().unwrap_or(0),
            Self::Best { nodes, depth, .. } => *depth.min(nodes),
        }
    }

    /// The parents of a fixed shape.
    pub fn parents(&self) -> Option<&[Option<usize>]> {
        match self {
            Self::Fixed(parents) => Some(parents),
            Self::Best { .. } => None,
        }
    }

    fn check(&self) -> Result<(), ShapeError> {
        let nodes = self.nodes();
        if nodes > MOST {
            return Err(ShapeError::TooLarge { nodes });
        }
        match self {
            Self::Best { depth, children, .. } if *depth == 0 || *children == 0 => Err(ShapeError::Empty),
            _ if nodes == 0 => Err(ShapeError::Empty),
            Self::Best { .. } => Ok(()),
            Self::Fixed(parents) => {
                let late = |(node, parent): (usize, &Option<usize>)| parent.is_some_and(|at| at >= node);
                if let Some(node) = parents.iter().enumerate().position(late) {
                    return Err(ShapeError::Order { node });
                }
                let depths = depths(parents);
                match depths.windows(2).position(|pair| pair[1] < pair[0]) {
                    Some(before) => Err(ShapeError::Order { node: before + 1 }),
                    None => Ok(()),
                }
            }
        }
    }
}

/// How deep each node is, from 1; a parent that comes late counts as the root.
fn depths(parents: &[Option<usize>]) -> Vec<usize> {
    let mut depths: Vec<usize> = Vec::with_capacity(parents.len());
    for parent in parents {
        let above = parent.and_then(|parent| depths.get(parent).copied());
        depths.push(above.unwrap_or(0) + 1);
    }
    depths
}

impl fmt::Display for TreeShape {
    /// Children a level where all points of a level have as many, else the parents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parents = match self {
            Self::Best { nodes, depth, children } => return write!(f, "best:{nodes}:{depth}:{children}"),
            Self::Fixed(parents) => parents,
        };
        let (mut counts, mut level) = (Vec::new(), 1);
        for depth in 1..=self.depth() {
            let here = depths(parents).iter().filter(|at| **at == depth).count();
            counts.push(here / level);
            level = here;
        }
        if Self::levels(&counts).is_ok_and(|regular| regular == *self) {
            let counts: Vec<_> = counts.iter().map(usize::to_string).collect();
            return f.write_str(&counts.join("x"));
        }
        write!(f, "{} nodes, {} deep", parents.len(), self.depth())
    }
}

impl FromStr for TreeShape {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        let numbers = |text: &str, between: char| -> Option<Vec<usize>> {
            text.split(between).map(|part| part.trim().parse().ok()).collect()
        };
        let shape = match text.strip_prefix("best:") {
            Some(rest) => numbers(rest, ':').and_then(|numbers| match numbers[..] {
                [nodes, depth, children] => Some(Self::Best { nodes, depth, children }),
                _ => None,
            }),
            None => return numbers(text, 'x').map_or_else(|| Err(no_shape(text)), |n| Self::levels(&n)),
        };
        let shape = shape.ok_or_else(|| no_shape(text))?;
        shape.check()?;
        Ok(shape)
    }
}

fn no_shape(text: &str) -> ShapeError {
    ShapeError::Text { found: text.to_owned() }
}
