use super::*;
use crate::cost::RowCost;
use std::cell::Cell;

/// A model in which every layer agrees in its own measure, and costs the same.
struct Toy {
    /// What is lost without each layer, from the first.
    losses: Vec<f64>,
    asked: Vec<String>,
}

impl Toy {
    fn new(losses: &[f64]) -> Self {
        Self { losses: losses.to_vec(), asked: Vec::new() }
    }

    fn left_out(&self, shortcut: &Shortcut) -> Vec<usize> {
        let layers = shortcut.layers(self.losses.len()).unwrap();
        (1..=self.losses.len()).filter(|layer| !layers.contains(layer)).collect()
    }
}

impl Subject for Toy {
    fn agreement(&mut self, shortcuts: &[Shortcut]) -> Result<Vec<Agreement>, ModelError> {
        let agreement = |shortcut: &Shortcut| {
            let lost: f64 = self.left_out(shortcut).iter().map(|layer| self.losses[layer - 1]).sum();
            Agreement::new(vec![vec![(1.0 - lost).max(0.0); 40]])
        };
        Ok(shortcuts.iter().map(agreement).collect())
    }

    fn costs(&mut self, shortcut: &Shortcut) -> Result<RoundCosts, ModelError> {
        self.asked.push(shortcut.to_string());
        let layers = self.losses.len();
        let cost = (layers - self.left_out(shortcut).len()) as f64 / layers as f64;
        let point = |rows, verify| RowCost { rows, verify, draft: 0.0 };
        let costs = RoundCosts::new([point(1, 1.0), point(9, 1.0)]).unwrap();
        Ok(costs.with_draft_cost(cost))
    }
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9, "{a} is not {b}");
}

#[test]
fn a_prediction_is_the_one_by_hand() {
    let agreement = Agreement::new(vec![vec![0.5; 10]]);
    let points = [(1, 1.0, 0.0), (2, 1.1, 0.2), (3, 1.2, 0.4)];
    let costs = RoundCosts::new(points.map(|(rows, verify, draft)| RowCost { rows, verify, draft })).unwrap();
    let of = |shortcut, max| Candidate::new(shortcut, 6, &agreement, &costs, max);
    let candidate = |max| of(Shortcut::Exit(3), max);
    // 1.5 / 1.3 against 1.75 / 1.6
    close(candidate(2).speedup, 1.5 / 1.3);
    assert_eq!(candidate(2).draft_length, 1);
    assert_eq!(candidate(1), candidate(2));
    close(candidate(2).draft_cost, 0.2);
    assert_eq!(
        candidate(2).to_string(),
        "exit after layer 3 of 6: agreement 0.50, a drafted token costs 0.20 and a pass over 2 rows 1.10 of an \
         expert step: predicted speedup 1.15 with drafts of 1"
    );
    for (skipped, begin) in
        [(vec![2], "layer 2 of 6 skipped: "), (vec![2, 3, 5], "layers 2,3,5 of 6 skipped: ")]
    {
        assert!(of(Shortcut::Skip(skipped), 1).to_string().starts_with(begin));
    }
}

#[test]
fn the_best_layers_to_skip_are_found_one_by_one() {
    // Layers 3 and 5 do next to nothing; layer 2 does something.
    let mut toy = Toy::new(&[0.9, 0.2, 0.0, 0.3, 0.01, 0.4, 0.5, 0.5]);
    let search = search(&mut toy, 8, 4, &|| true).unwrap();
    assert!(search.complete);
    assert_eq!(search.positions, 40);
    let skips: Vec<_> =
        search.candidates.iter().filter(|c| matches!(c.shortcut, Shortcut::Skip(_))).collect();
    assert_eq!(skips[0].shortcut.to_string(), "skip:3,5");
    assert!(search.candidates.windows(2).all(|pair| pair[0].speedup >= pair[1].speedup));
    assert_eq!(search.best().map(|best| &best.shortcut), Some(&search.candidates[0].shortcut));
    assert_eq!(search.candidates.len() - skips.len(), 7, "every exit");
    // One set of each size is timed.
    assert_eq!(toy.asked.iter().filter(|name| name.starts_with("skip")).count(), 4, "{:?}", toy.asked);
}

#[test]
fn a_model_that_needs_every_layer_has_no_best() {
    let search = search(&mut Toy::new(&[0.9; 6]), 6, 4, &|| true).unwrap();
    assert!(search.complete && !search.candidates.is_empty());
    assert_eq!(search.best(), None);
}

#[test]
fn models_of_few_layers_have_few_shortcuts() {
    for (layers, exits, skips) in [(1, 0, 0), (2, 1, 0), (3, 2, 1)] {
        let search = search(&mut Toy::new(&vec![0.1; layers]), layers, 2, &|| true).unwrap();
        assert!(search.complete);
        assert_eq!(search.candidates.len(), exits + skips, "{layers}");
    }
}

#[test]
fn what_was_measured_in_time_is_given() {
    for time in 0..12usize {
        let left = Cell::new(time + 1);
        let has_time = || {
            left.set(left.get().saturating_sub(1));
            left.get() > 0
        };
        let search = search(&mut Toy::new(&[0.1; 8]), 8, 2, &has_time).unwrap();
        assert!(!search.complete);
        // The pass over all exits is asked for too.
        assert_eq!(search.candidates.len(), time.saturating_sub(1));
    }
}
