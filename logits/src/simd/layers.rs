//! Passes over pairs of rows, for laws made of several layers of a model.

use super::{Pass, exp_with, fused, multiply_add};

/// A logit of either precision.
pub(crate) trait Number: Copy + Into<f64> {}

impl<T: Copy + Into<f64>> Number for T {}

/// Partial sums of a pass that keeps several.
const LANES: usize = 8;

/// The largest value of a row of logits; `None` where no law follows from it: a NaN or `+inf`, or nothing finite.
pub(crate) fn highest<T: Number>(row: &[T]) -> Option<f64> {
    let (mut max, mut bad) = (f64::NEG_INFINITY, false);
    for &x in row {
        let x = x.into();
        bad |= !x.lt(&f64::INFINITY);
        max = if x > max { x } else { max };
    }
    (!bad && max.is_finite()).then_some(max)
}

/// `sum(exp(row - max))`.
pub(crate) fn sum_exp<T: Number>(row: &[T], max: f64) -> f64 {
    fused(SumExp { row, max })
}

struct SumExp<'a, T> {
    row: &'a [T],
    max: f64,
}

impl<T: Number> Pass for SumExp<'_, T> {
    type Out = f64;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f64 {
        let mut lanes = [0.0; LANES];
        let (chunks, rest) = self.row.as_chunks::<LANES>();
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] += exp_with::<FUSED>(chunk[i].into() - self.max);
            }
        }
        for (i, &x) in rest.iter().enumerate() {
            lanes[i] += exp_with::<FUSED>(x.into() - self.max);
        }
        lanes.iter().sum()
    }
}

/// Adds `scale * exp(row - max)` to a row.
pub(crate) fn add_exp(row: &mut [f64], max: f64, scale: f64) {
    fused(AddExp { row, max, scale });
}

struct AddExp<'a> {
    row: &'a mut [f64],
    max: f64,
    scale: f64,
}

impl Pass for AddExp<'_> {
    type Out = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for x in self.row {
            *x = multiply_add::<FUSED>(self.scale, exp_with::<FUSED>(*x - self.max), *x);
        }
    }
}

/// What an early row `l` and its distance `d` from the last row add up to, `e` being `exp(l - max)`. A token that
/// either row excludes is at no distance.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Moments {
    /// `sum(e)`.
    pub(crate) e: f64,
    /// `sum(e^2)`.
    pub(crate) ee: f64,
    /// `sum(e d)`.
    pub(crate) ed: f64,
    /// `sum(d^2)`.
    pub(crate) dd: f64,
}

impl std::ops::Add for Moments {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { e: self.e + other.e, ee: self.ee + other.ee, ed: self.ed + other.ed, dd: self.dd + other.dd }
    }
}

/// [`Moments`] of `early` and `last`, rows of equal length.
pub(crate) fn moments<T: Number>(early: &[T], last: &[T], max: f64) -> Moments {
    fused(MomentsOf { early, last, max })
}

struct MomentsOf<'a, T> {
    early: &'a [T],
    last: &'a [T],
    max: f64,
}

impl<T: Number> Pass for MomentsOf<'_, T> {
    type Out = Moments;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> Moments {
        let mut lanes = [[0.0; LANES]; 4];
        let (early, early_rest) = self.early.as_chunks::<LANES>();
        let (last, last_rest) = self.last.as_chunks::<LANES>();
        for (early, last) in early.iter().zip(last) {
            for i in 0..LANES {
                add_moments::<FUSED>(&mut lanes, i, early[i].into() - self.max, distance(early[i], last[i]));
            }
        }
        for (i, (&early, &last)) in early_rest.iter().zip(last_rest).enumerate() {
            add_moments::<FUSED>(&mut lanes, i, early.into() - self.max, distance(early, last));
        }
        let [e, ee, ed, dd] = lanes.map(|lanes| lanes.iter().sum());
        Moments { e, ee, ed, dd }
    }
}

#[inline(always)]
fn add_moments<const FUSED: bool>(lanes: &mut [[f64; LANES]; 4], i: usize, exponent: f64, d: f64) {
    let e = exp_with::<FUSED>(exponent);
    lanes[0][i] += e;
    lanes[1][i] = multiply_add::<FUSED>(e, e, lanes[1][i]);
    lanes[2][i] = multiply_add::<FUSED>(e, d, lanes[2][i]);
    lanes[3][i] = multiply_add::<FUSED>(d, d, lanes[3][i]);
}

/// How far a logit is from that of the last layer; 0 where one of them excludes the token.
#[inline(always)]
pub(crate) fn distance<T: Number>(early: T, last: T) -> f64 {
    let d = early.into() - last.into();
    if d.abs() < f64::INFINITY { d } else { 0.0 }
}

/// A row with what makes it log-probabilities: `(row - max) - log_sum`, in this order, so that a constant added to a
/// row costs no digits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogRow<'a, T> {
    pub(crate) row: &'a [T],
    max: f64,
    log_sum: f64,
}

impl<'a, T: Number> LogRow<'a, T> {
    /// `None` where no law follows from the row.
    pub(crate) fn of(row: &'a [T]) -> Option<Self> {
        let max = highest(row)?;
        Some(Self { row, max, log_sum: sum_exp(row, max).ln() })
    }

    /// Log-probability of a token with this logit.
    #[inline(always)]
    pub(crate) fn of_logit(&self, logit: T) -> f64 {
        logit.into() - self.max - self.log_sum
    }

    /// Log-probability of a token.
    pub(crate) fn log_prob(&self, token: usize) -> f64 {
        self.of_logit(self.row[token])
    }

    /// The highest log-probability.
    pub(crate) fn best(&self) -> f64 {
        -self.log_sum
    }
}

/// Makes every `log` the logarithm of `exp(log) + exp(log-probability + offset)`.
pub(crate) fn log_add_exp<T: Number>(log: &mut [f64], row: &LogRow<'_, T>, offset: f64) {
    fused(LogAddExp { log, row, offset });
}

struct LogAddExp<'a, T> {
    log: &'a mut [f64],
    row: &'a LogRow<'a, T>,
    offset: f64,
}

impl<T: Number> Pass for LogAddExp<'_, T> {
    type Out = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        for (a, &b) in self.log.iter_mut().zip(self.row.row) {
            let b = self.row.of_logit(b) + self.offset;
            let (less, more) = if *a > b { (b, *a) } else { (*a, b) };
            // Where both are infinitely small their difference is NaN, of which the exponential is 0.
            *a = more + ln_1p::<FUSED>(exp_with::<FUSED>(less - more));
        }
    }
}

/// The Jensen-Shannon divergence of two rows of equal length in nats, from 0 to ln 2.
///
/// With `r = min / max` of both probabilities of a token it is
/// `ln 2 - sum((p + q) ln(1 + r) - min(p, q) ln r) / 2`, in which nothing cancels but at the very end.
pub(crate) fn jensen_shannon<T: Number>(a: LogRow<'_, T>, b: LogRow<'_, T>) -> f64 {
    (std::f64::consts::LN_2 - 0.5 * fused(Shared { a, b })).max(0.0)
}

struct Shared<'a, T> {
    a: LogRow<'a, T>,
    b: LogRow<'a, T>,
}

impl<T: Number> Pass for Shared<'_, T> {
    type Out = f64;

    #[inline(always)]
    fn run<const FUSED: bool>(self) -> f64 {
        let mut lanes = [0.0; LANES];
        let (row_a, row_b) = (self.a, self.b);
        let (a, a_rest) = self.a.row.as_chunks::<LANES>();
        let (b, b_rest) = self.b.row.as_chunks::<LANES>();
        for (a, b) in a.iter().zip(b) {
            for i in 0..LANES {
                lanes[i] += shared::<FUSED>(row_a.of_logit(a[i]), row_b.of_logit(b[i]));
            }
        }
        for (i, (&a, &b)) in a_rest.iter().zip(b_rest).enumerate() {
            lanes[i] += shared::<FUSED>(row_a.of_logit(a), row_b.of_logit(b));
        }
        lanes.iter().sum()
    }
}

/// `(p + q) ln(1 + r) - min(p, q) ln r` of two log-probabilities.
#[inline(always)]
fn shared<const FUSED: bool>(a: f64, b: f64) -> f64 {
    // Excluded by one or both: as if infinitely apart.
    let apart = (a - b).abs();
    let apart = if apart < 800.0 { apart } else { 800.0 };
    let more = exp_with::<FUSED>(if a > b { a } else { b });
    let r = exp_with::<FUSED>(-apart);
    let less = more * r;
    multiply_add::<FUSED>(more + less, ln_1p::<FUSED>(r), less * apart)
}

/// `ln(1 + r)` for `r` in `[0, 1]`, to within a few units in the last place: twice the series of `atanh(r / (2 + r))`.
#[inline(always)]
fn ln_1p<const FUSED: bool>(r: f64) -> f64 {
    let s = r / (2.0 + r);
    let square = s * s;
    let mut sum = 1.0 / 33.0;
    let mut odd = 31.0;
    for _ in 0..16 {
        sum = multiply_add::<FUSED>(sum, square, 1.0 / odd);
        odd -= 2.0;
    }
    2.0 * s * sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_logarithm_is_exact_to_a_few_units() {
        for i in 0..=100_000 {
            let r = f64::from(i) * 1e-5;
            for ours in [ln_1p::<true>(r), ln_1p::<false>(r)] {
                assert!((ours - r.ln_1p()).abs() <= 4.0 * f64::EPSILON * r.ln_1p(), "{r}");
            }
        }
    }

    #[test]
    fn rows_without_a_law() {
        for row in [&[][..], &[f64::NEG_INFINITY], &[0.0, f64::NAN], &[f64::INFINITY, 0.0]] {
            assert_eq!(highest(row), None, "{row:?}");
        }
        assert_eq!(highest(&[-3.0f32, f32::NEG_INFINITY]), Some(-3.0));
    }

    proptest! {
        #[test]
        fn passes_agree_with_loops(rows in prop::collection::vec((-20.0..20.0f64, -20.0..20.0f64), 1..40)) {
            let (a, b): (Vec<f64>, Vec<f64>) = rows.into_iter().unzip();
            let max = highest(&a).unwrap();
            let near = |x: f64, y: f64| (x - y).abs() <= 1e-12 * (1.0 + y.abs());
            let sums = moments(&a, &b, max);
            let e: Vec<f64> = a.iter().map(|x| (x - max).exp()).collect();
            let d: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
            let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
            prop_assert!(near(sums.e, e.iter().sum()) && near(sum_exp(&a, max), sums.e));
            prop_assert!(near(sums.ee, dot(&e, &e)) && near(sums.ed, dot(&e, &d)) && near(sums.dd, dot(&d, &d)));
            let mut moved = a.clone();
            add_exp(&mut moved, max, -0.5);
            prop_assert!(moved.iter().zip(a.iter().zip(&e)).all(|(x, (a, e))| near(*x, a - 0.5 * e)));
        }
    }
}
