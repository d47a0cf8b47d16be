/// How much of the expert's law a drafter shares: of each text, for each position in turn, the sum of min(p, q).
///
/// At temperature 0 that is 1 where both say the same token, else 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Agreement(Vec<Vec<f64>>);

impl Agreement {
    /// Of texts that follow one upon another.
    pub fn new(texts: Vec<Vec<f64>>) -> Self {
        Self(texts)
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.0.iter().map(Vec::len).sum()
    }

    /// The mean: the share of first tokens that are accepted. 0 without positions.
    pub fn mean(&self) -> f64 {
        self.survival(1)
    }

    /// The probability that `count` tokens in a row are accepted: the mean, over all places where as many positions
    /// follow, of the product of theirs. 0 where no text is so long.
    ///
    /// Places where both agree come in runs, so that this is more than a power of the mean.
    pub fn survival(&self, count: usize) -> f64 {
        let windows = || self.0.iter().flat_map(|text| text.windows(count.max(1)));
        let places = windows().count();
        let sum: f64 = windows().map(|window| window.iter().product::<f64>()).sum();
        if places == 0 { 0.0 } else { sum / places as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survival_counts_runs() {
        let agreement = Agreement::new(vec![vec![1.0, 1.0, 0.0, 1.0], vec![0.5, 1.0], vec![]]);
        assert_eq!(agreement.positions(), 6);
        assert_eq!(agreement.mean(), 4.5 / 6.0);
        // Of the first text 1, 0, 0; of the second 0.5: no window reaches over the end of a text.
        assert_eq!(agreement.survival(2), 1.5 / 4.0);
        assert_eq!(agreement.survival(4), 0.0);
        assert_eq!(agreement.survival(5), 0.0);
        assert_eq!(Agreement::default().mean(), 0.0);
    }
}
