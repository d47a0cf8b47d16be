use super::Branching;
use std::{fmt, num::ParseIntError, str::FromStr, sync::Arc};

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
/// As text it is `3x2x1`, children a point from level to level, or `best:NODES:DEPTH:CHILDREN`. Where points of a level
/// have different numbers of children, those stand in a list: in `3x2+1` the first child of the root has two children,
/// the second one, and the third, of which nothing is said, none. `auto` is what pays, and `auto:NODES:DEPTH:CHILDREN`
/// within these bounds.
///
/// ```
/// use drafthorse_logits::TreeShape;
///
/// let shape: TreeShape = "3x1".parse()?;
/// assert_eq!((shape.nodes(), shape.depth()), (6, 2));
/// assert_eq!(shape, TreeShape::levels(&[3, 1])?);
/// assert_eq!(TreeShape::chain(2)?, TreeShape::levels(&[1, 1])?);
/// assert_eq!("2x1+0".parse::<TreeShape>()?, TreeShape::fixed(&[None, None, Some(0)])?);
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
    /// Another tree from round to round, the chain, or nothing: what gives the most tokens a second by what rounds cost
    /// and by which children stood in the rounds before. Drafters are never asked for it, but for what it comes to.
    ///
    /// Source: Chen et al., "Sequoia", 2024, section 3.3, with measured costs and learned acceptance.
    Auto {
        /// The most nodes.
        nodes: usize,
        /// The most tokens in a row.
        depth: usize,
        /// The most children of a node.
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
    #[error(
        "`{found}` is no shape of a tree; auto, children a level, such as 3x2x1 or 3x2+1, or best:NODES:DEPTH:CHILDREN"
    )]
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
        let levels: Vec<_> = children.iter().map(|count| Children::Each(*count)).collect();
        Self::of_levels(&levels)
    }

    fn of_levels(levels: &[Children]) -> Result<Self, ShapeError> {
        let mut parents = Vec::new();
        let mut level = vec![None];
        for children in levels {
            let first = parents.len();
            for (at, parent) in level.iter().enumerate() {
                let nodes = parents.len().saturating_add(children.of(at));
                if nodes > MOST {
                    let level = level.len().saturating_mul(children.of(at)).max(nodes - first);
                    return Err(ShapeError::TooLarge { nodes: first.saturating_add(level) });
                }
                parents.extend(std::iter::repeat_n(*parent, children.of(at)));
            }
            level = (first..parents.len()).map(Some).collect();
        }
        Self::fixed(&parents)
    }

    /// What pays, of up to 16 nodes, 6 tokens in a row and 3 children.
    pub const fn auto() -> Self {
        Self::Auto { nodes: 16, depth: 6, children: 3 }
    }

    /// Nodes at most.
    pub fn nodes(&self) -> usize {
        match self {
            Self::Fixed(parents) => parents.len(),
            Self::Best { nodes, .. } | Self::Auto { nodes, .. } => *nodes,
        }
    }

    /// Tokens in a row at most.
    pub fn depth(&self) -> usize {
        match self {
            Self::Fixed(parents) => depths(parents).into_iter().max().unwrap_or(0),
            Self::Best { nodes, depth, .. } | Self::Auto { nodes, depth, .. } => *depth.min(nodes),
        }
    }

    /// The parents of a fixed shape.
    pub fn parents(&self) -> Option<&[Option<usize>]> {
        match self {
            Self::Fixed(parents) => Some(parents),
            Self::Best { .. } | Self::Auto { .. } => None,
        }
    }

    fn check(&self) -> Result<(), ShapeError> {
        let nodes = self.nodes();
        if nodes > MOST {
            return Err(ShapeError::TooLarge { nodes });
        }
        match self {
            Self::Best { depth, children, .. } | Self::Auto { depth, children, .. }
                if *depth == 0 || *children == 0 =>
            {
                Err(ShapeError::Empty)
            }
            _ if nodes == 0 => Err(ShapeError::Empty),
            Self::Best { .. } | Self::Auto { .. } => Ok(()),
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
    /// What is parsed back to the same tree; its nodes are then in the order of their parents.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parents = match self {
            Self::Best { nodes, depth, children } => return write!(f, "best:{nodes}:{depth}:{children}"),
            auto if *auto == Self::auto() => return f.write_str("auto"),
            Self::Auto { nodes, depth, children } => return write!(f, "auto:{nodes}:{depth}:{children}"),
            Self::Fixed(parents) => parents,
        };
        let mut level = vec![None];
        for depth in 0..self.depth() {
            let below = |point: &Option<usize>| {
                let nodes = parents.iter().enumerate().filter(|(_, parent)| *parent == point);
                nodes.map(|(node, _)| Some(node)).collect::<Vec<_>>()
            };
            let below: Vec<_> = level.iter().map(below).collect();
            let between = if depth == 0 { "" } else { "x" };
            write!(f, "{between}{}", Children::new(below.iter().map(Vec::len).collect()))?;
            level = below.concat();
        }
        Ok(())
    }
}

/// How many children the points of a level have.
enum Children {
    /// All as many.
    Each(usize),
    /// These, and those behind them none.
    List(Vec<usize>),
}

impl Children {
    fn new(mut counts: Vec<usize>) -> Self {
        if counts.iter().all(|count| *count == counts[0]) {
            return Self::Each(counts.first().copied().unwrap_or(0));
        }
        // Two stay, since one alone would be that of all.
        while counts.len() > 2 && counts.last() == Some(&0) {
            counts.pop();
        }
        Self::List(counts)
    }

    fn of(&self, point: usize) -> usize {
        match self {
            Self::Each(count) => *count,
            Self::List(counts) => counts.get(point).copied().unwrap_or(0),
        }
    }
}

impl fmt::Display for Children {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Each(count) => write!(f, "{count}"),
            Self::List(counts) => {
                let counts: Vec<_> = counts.iter().map(usize::to_string).collect();
                f.write_str(&counts.join("+"))
            }
        }
    }
}

impl FromStr for Children {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        match text.trim().parse() {
            Ok(count) => Ok(Self::Each(count)),
            Err(_) => {
                text.split('+').map(|count| count.trim().parse()).collect::<Result<_, _>>().map(Self::List)
            }
        }
    }
}

impl FromStr for TreeShape {
    type Err = ShapeError;

    fn from_str(text: &str) -> Result<Self, ShapeError> {
        let no_shape = || ShapeError::Text { found: text.to_owned() };
        if text == "auto" {
            return Ok(Self::auto());
        }
        let Some((name @ ("auto" | "best"), bounds)) = text.split_once(':') else {
            let levels = text.split('x').map(str::parse).collect::<Result<Vec<_>, _>>();
            return Self::of_levels(&levels.map_err(|_| no_shape())?);
        };
        let numbers: Option<Vec<usize>> = bounds.split(':').map(|part| part.trim().parse().ok()).collect();
        let shape = match numbers.as_deref() {
            Some(&[nodes, depth, children]) if name == "best" => Self::Best { nodes, depth, children },
            Some(&[nodes, depth, children]) => Self::Auto { nodes, depth, children },
            _ => return Err(no_shape()),
        };
        shape.check()?;
        Ok(shape)
    }
}
