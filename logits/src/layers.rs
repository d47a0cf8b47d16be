//! Logits made of several layers of one model.

use crate::{
    LogitsError, TokenId, largest,
    simd::layers::{LogRow, Moments, Number, add_exp, distance, highest, jensen_shannon, moments, sum_exp},
};

/// SLED, self logits evolution decoding: the last layer's logits take a step towards what the way from early layers
/// to the last one points at.
///
/// `logits_n` of an early layer is the model's head (final norm included) on the state after that layer; rows are as
/// the head gives them, since a constant added to a row changes the result.
///
/// Source: Zhang et al., "SLED: Self Logits Evolution Decoding", 2024, with the cosines of the authors' code.
///
/// ```
/// use drafthorse_logits::Sled;
///
/// let sled = Sled::new(2, 2.0, 1, -1000.0)?;
/// let row = sled.logits(&[2.0, 1.8, 0.5], &[&[0.2, 0.1, 0.0], &[0.5, 1.5, 0.3]]);
/// assert!(row[0] > row[1] && row[2] == -1000.0); // the two best are left
/// # Ok::<(), drafthorse_logits::LogitsError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sled {
    scale: usize,
    rate: f64,
    steps: usize,
    floor: f64,
}

/// The most steps of an evolution.
const MOST_STEPS: usize = 100;

impl Default for Sled {
    /// Scale 10, rate 2, one step, floor -1000: the authors' settings for generation.
    fn default() -> Self {
        Self { scale: 10, rate: 2.0, steps: 1, floor: -1000.0 }
    }
}

/// What [`Sled`] finds on its way.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Evolution {
    /// The most probable tokens of the last layer, best first: the only ones that are left.
    pub support: Vec<TokenId>,
    /// The law the layers point at, over `support`; all 0 where no layer points anywhere.
    pub latent: Vec<f64>,
    /// What each early layer adds to it; all 0 where no layer points anywhere.
    pub layer_weights: Vec<f64>,
    /// The new logits of `support`.
    pub logits: Vec<f64>,
}

impl Sled {
    /// The `scale` most probable tokens evolve `steps` times with a rate that begins at `rate` and falls to 0; all
    /// others get the logit `floor`.
    ///
    /// # Errors
    ///
    /// [`LogitsError::OutOfRange`]: a scale of 0, a rate outside 0 to 100, steps outside 1 to 100 (each is a softmax over
    /// the vocabulary), a floor above 0 or not finite.
    pub fn new(scale: usize, rate: f64, steps: usize, floor: f64) -> Result<Self, LogitsError> {
        let check = |name, value: f64, ok: bool, range| {
            if ok { Ok(()) } else { Err(LogitsError::OutOfRange { name, value, range }) }
        };
        check("evolution scale", scale as f64, scale > 0, "1 or more tokens")?;
        check("evolution rate", rate, (0.0..=100.0).contains(&rate), "0 (off) to 100")?;
        check("evolution steps", steps as f64, (1..=MOST_STEPS).contains(&steps), "1 to 100")?;
        check("evolution floor", floor, (floor as f32).is_finite() && floor <= 0.0, "finite, at most 0")?;
        Ok(Self { scale, rate, steps, floor })
    }

    /// The evolved row. A token the last layer excludes stays excluded.
    ///
    /// Where no law follows from one of the rows (a NaN, `+inf`, or nothing finite) the whole result is NaN, which
    /// every sampler refuses.
    ///
    /// # Panics
    ///
    /// If the rows differ in length.
    pub fn logits(&self, last: &[f32], early: &[&[f32]]) -> Vec<f32> {
        let Some(evolution) = self.evolve(last, early) else { return vec![f32::NAN; last.len()] };
        // Where all logits lie deep below zero, the floor must not stand out.
        let floor = evolution.logits.iter().copied().fold(self.floor, f64::min) as f32;
        let floored = |&x: &f32| if x == f32::NEG_INFINITY { x } else { floor };
        let mut row: Vec<f32> = last.iter().map(floored).collect();
        for (&token, &logit) in evolution.support.iter().zip(&evolution.logits) {
            row[token as usize] = logit as f32;
        }
        row
    }

    /// The evolution itself, of rows in either precision; `None` where no law follows from a row.
    ///
    /// # Panics
    ///
    /// If the rows differ in length.
    pub fn evolve<T: Copy + Into<f64>>(&self, last: &[T], early: &[&[T]]) -> Option<Evolution> {
        check_lengths(last, early);
        let mut evolved: Vec<f64> = last.iter().map(|&x| x.into()).collect();
        let mut max = highest(&evolved)?;
        let possible = largest(&evolved, self.scale).into_iter().filter(|(_, x)| x.is_finite());
        let support: Vec<TokenId> = possible.map(|(token, _)| token).collect();
        let pointing: Vec<Vec<f64>> =
            early.iter().map(|layer| pointing(layer, last, &support)).collect::<Option<_>>()?;
        let sums: Vec<f64> = pointing.iter().map(|layer| layer.iter().sum()).collect();
        let total: f64 = sums.iter().sum();
        // A layer's own law times its weight is its part of the whole.
        let share = |x: f64| if total == 0.0 { 0.0 } else { x / total };
        let of_token = |at: usize| share(pointing.iter().map(|layer| layer[at]).sum());
        let latent: Vec<f64> = (0..support.len()).map(of_token).collect();
        for step in 0..self.steps {
            let rate = self.rate * (1.0 - step as f64 / self.steps as f64);
            let sum = sum_exp(&evolved, max);
            add_exp(&mut evolved, max, -rate / sum);
            for (&token, &wanted) in support.iter().zip(&latent) {
                evolved[token as usize] += rate * wanted;
            }
            max = highest(&evolved)?;
        }
        let logits = support.iter().map(|&token| evolved[token as usize]).collect();
        Some(Evolution { support, latent, layer_weights: sums.into_iter().map(share).collect(), logits })
    }
}

/// `DoLa`, decoding by contrasting layers: what the last layer says more of than the early layer that is furthest
/// from it.
///
/// Source: Chuang et al., "`DoLa`: Decoding by Contrasting Layers", 2024; the divergence is the textbook one, where
/// the authors' code has another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dola {
    relative_top: f64,
    floor: f64,
}

impl Default for Dola {
    /// Relative top 0.1, floor -1000: the authors' settings.
    fn default() -> Self {
        Self { relative_top: 0.1, floor: -1000.0 }
    }
}

/// What [`Dola`] finds on its way.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LayerContrast {
    /// Jensen-Shannon divergence of each early layer from the last one, in nats.
    pub divergence: Vec<f64>,
    /// The early layer of the greatest divergence, the first among equals; `None` where there is no layer.
    pub layer: Option<usize>,
    /// The new logits.
    pub scores: Vec<f64>,
}

impl Dola {
    /// Tokens at least `relative_top` times as probable to the last layer as its best are contrasted, all others
    /// get the logit `floor`.
    ///
    /// # Errors
    ///
    /// [`LogitsError::OutOfRange`]: a relative top outside 0 to 1, a floor above 0 or not finite.
    pub fn new(relative_top: f64, floor: f64) -> Result<Self, LogitsError> {
        let check = |name, value: f64, ok: bool, range| {
            if ok { Ok(()) } else { Err(LogitsError::OutOfRange { name, value, range }) }
        };
        check("relative top", relative_top, (0.0..=1.0).contains(&relative_top), "0 to 1")?;
        check("contrast floor", floor, (floor as f32).is_finite() && floor <= 0.0, "finite, at most 0")?;
        Ok(Self { relative_top, floor })
    }

    /// The contrasted row. A token the last layer excludes stays excluded; one that only the early layer excludes
    /// counts there with the log-probability `floor`. Without early layers the plausible tokens are left as they are.
    ///
    /// Where no law follows from one of the rows (a NaN, `+inf`, or nothing finite) the whole result is NaN, which
    /// every sampler refuses.
    ///
    /// # Panics
    ///
    /// If the rows differ in length.
    pub fn logits(&self, last: &[f32], early: &[&[f32]]) -> Vec<f32> {
        let contrast = self.contrast(last, early);
        contrast.map_or_else(
            || vec![f32::NAN; last.len()],
            |contrast| contrast.scores.iter().map(|&score| score as f32).collect(),
        )
    }

    /// The contrast itself, of rows in either precision; `None` where no law follows from a row.
    ///
    /// # Panics
    ///
    /// If the rows differ in length.
    pub fn contrast<T: Copy + Into<f64>>(&self, last: &[T], early: &[&[T]]) -> Option<LayerContrast> {
        check_lengths(last, early);
        let mature = LogRow::of(last)?;
        let plausible = mature.best() + self.relative_top.ln();
        let early: Vec<LogRow<'_, T>> = early.iter().map(|layer| LogRow::of(layer)).collect::<Option<_>>()?;
        let divergence: Vec<f64> = early.iter().map(|&layer| jensen_shannon(mature, layer)).collect();
        let further = |best: Option<usize>, at: usize| match best {
            Some(best) if divergence[best] >= divergence[at] => Some(best),
            _ => Some(at),
        };
        let layer = (0..early.len()).fold(None, further);
        let premature = |token| layer.map_or(0.0, |layer| early[layer].log_prob(token).max(self.floor));
        let score = |(token, &logit): (usize, &T)| match mature.of_logit(logit) {
            f64::NEG_INFINITY => f64::NEG_INFINITY,
            p if p >= plausible => p - premature(token),
            _ => self.floor,
        };
        let scores = last.iter().enumerate().map(score).collect();
        Some(LayerContrast { divergence, layer, scores })
    }
}

fn check_lengths<T>(last: &[T], early: &[&[T]]) {
    for layer in early {
        assert_eq!(layer.len(), last.len(), "tokens of an early row and the last one");
    }
}

/// For each token how much the way from `early` to `last` points at it: the square of the cosine, if positive, between
/// `early - last` and the gradient `softmax(early) - token`.
///
/// One pass over the rows serves all tokens.
fn pointing<T: Number>(early: &[T], last: &[T], support: &[TokenId]) -> Option<Vec<f64>> {
    let max = highest(early)?;
    let top = early.iter().position(|&x| x.into() == max)?;
    let distance = |token: usize| distance(early[token], last[token]);
    // The best token, whose e is 1, stands apart: a layer that is all but certain shall not drown the others in it.
    let others =
        moments(&early[..top], &last[..top], max) + moments(&early[top + 1..], &last[top + 1..], max);
    let (sum, d) = (1.0 + others.e, distance(top));
    let layer = Layer { others, sum, d_top: d, length: (others.dd + d * d).sqrt() };
    let squared = |&token: &TokenId| {
        let token = token as usize;
        if token == top { layer.at_top() } else { layer.at(early[token].into() - max, distance(token)) }
    };
    Some(support.iter().map(squared).collect())
}

/// What the cosines of a layer are made of.
struct Layer {
    others: Moments,
    sum: f64,
    d_top: f64,
    length: f64,
}

impl Layer {
    /// Of the most probable token of the layer.
    fn at_top(&self) -> f64 {
        // The gradient is e / sum elsewhere and -(sum of those) here; its length does not matter.
        let rest = self.others.e;
        self.square(self.others.ed - rest * self.d_top, self.others.ee + rest * rest)
    }

    /// Of another token.
    fn at(&self, exponent: f64, d: f64) -> f64 {
        let p = exponent.exp() / self.sum;
        let dot = (self.others.ed + self.d_top) / self.sum - d;
        let squares = (1.0 + self.others.ee) / (self.sum * self.sum) - 2.0 * p + 1.0;
        self.square(dot, squares)
    }

    fn square(&self, dot: f64, gradient_squared: f64) -> f64 {
        let lengths = gradient_squared.sqrt() * self.length;
        if dot > 0.0 && lengths > 0.0 { (dot / lengths).powi(2) } else { 0.0 }
    }
}
