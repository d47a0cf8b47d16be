//! How far a tree that grows by its most probable tokens fills a shape.

use drafthorse_logits::TreeShape;

/// The places of a shape that are taken.
#[derive(Debug)]
pub(super) struct Fitting<'a> {
    shape: &'a TreeShape,
    depth: usize,
    /// For the root and each node: where it stands.
    points: Vec<Point>,
    /// How many points of each level have children.
    branching: Vec<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Point {
    /// Its node of a fixed shape.
    place: Option<usize>,
    depth: usize,
    children: usize,
}

impl<'a> Fitting<'a> {
    pub(super) fn new(shape: &'a TreeShape, depth: usize) -> Self {
        let root = Point { place: None, depth: 0, children: 0 };
        Self { shape, depth: depth.min(shape.depth()), points: vec![root], branching: vec![0; depth] }
    }

    /// Whether there is room for another node below this one; if so, it is taken.
    pub(super) fn takes(&mut self, parent: Option<usize>) -> bool {
        let at = parent.map_or(0, |node| node + 1);
        let Point { place, depth, children } = self.points[at];
        if depth >= self.depth {
            return false;
        }
        let place = match *self.shape {
            TreeShape::Best { nodes, children: most, .. } => {
                let is_free = children < most && (children > 0 || self.branching[depth] < most);
                (is_free && self.points.len() <= nodes).then_some(None)
            }
            _ => self.place(place, children).map(Some),
        };
        let Some(place) = place else { return false };
        self.branching[depth] += usize::from(children == 0);
        self.points[at].children += 1;
        self.points.push(Point { place, depth: depth + 1, children: 0 });
        true
    }

    /// Child `child` of a node of a fixed shape.
    fn place(&self, parent: Option<usize>, child: usize) -> Option<usize> {
        let parents = self.shape.parents()?;
        let mut below = parents.iter().enumerate().filter(|(_, above)| **above == parent);
        below.nth(child).map(|(node, _)| node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(shape: &str, depth: usize, wanted: &[Option<usize>]) -> Vec<bool> {
        let shape = shape.parse().expect("a shape");
        let mut fitting = Fitting::new(&shape, depth);
        wanted.iter().map(|parent| fitting.takes(*parent)).collect()
    }

    #[test]
    fn a_fixed_shape_is_filled() {
        let all = [None, None, Some(0), Some(1), Some(0), None];
        assert_eq!(taken("2x2", 2, &all), [true, true, true, true, true, false]);
        assert_eq!(taken("2x2", 1, &all), [true, true, false, false, false, false]);
        assert_eq!(taken("3x1+0", 9, &all), [true, true, true, false, false, true]);
    }

    #[test]
    fn the_best_nodes_are_bounded() {
        let all = [None, None, Some(0), Some(2), Some(0), Some(1), None];
        assert_eq!(taken("best:5:2:2", 2, &all), [true, true, true, false, true, true, false]);
        assert_eq!(taken("best:3:2:3", 2, &all), [true, true, true, false, false, false, false]);
        let narrow = [None, Some(0), Some(0), Some(1)];
        assert_eq!(taken("best:9:3:1", 3, &narrow), [true, true, false, true]);
    }
}
