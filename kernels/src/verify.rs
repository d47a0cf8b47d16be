//! What acceptance rules need of a verify pass, computed where the logits are.

use crate::{
    backend::{DecodeOps, DraftOf},
    is_ours, portable,
};
use burn::{
    backend::Dispatch,
    tensor::{Int, Tensor, TensorData, s},
};

/// The question to every row of a verify pass.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct VerifyRows<'a> {
    /// The drafted token a row judges; [`VerifyRows::NOTHING`] after the last drafted token (the bonus row),
    /// which with `draft` given has a row of zeros there.
    pub drafted: &'a [u32],
    /// A uniform number in `[0, 1)` for each row, for its sample from the residual.
    pub noise: &'a [f32],
    /// The drafter's probabilities `[m, vocabulary]` f32; `None` where drafted tokens were certain (greedy
    /// drafts, n-grams): then a row's residual is the expert's distribution without the drafted token.
    pub draft: Option<&'a Tensor<2>>,
    /// Logits are divided by this before anything is computed; must be above 0.
    pub temperature: f64,
}

impl VerifyRows<'_> {
    /// In the place of a drafted token: nothing was drafted. p and q are 0 there, and the residual of a row
    /// without a draft is all of p.
    pub const NOTHING: u32 = i32::MAX.cast_unsigned();
}

/// What is known of a row: a few numbers instead of a vocabulary.
///
/// `p` is the softmax of the row's logits over the temperature, `q` the drafter's row.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::exhaustive_structs)]
pub struct RowStatistics {
    /// The most probable token, the first of equals.
    pub argmax: u32,
    /// The largest logit over the temperature; where a logit is NaN or `+inf`, NaN or beyond 1e38 over the
    /// temperature.
    pub max: f32,
    /// `ln sum exp` of the logits over the temperature.
    pub log_sum_exp: f32,
    /// p of the drafted token.
    pub p: f32,
    /// q of the drafted token.
    pub q: f32,
    /// Total variation between p and q, `sum |p - q| / 2`.
    pub total_variation: f32,
    /// Mass of the residual, `sum max(0, p - q)`.
    pub residual_mass: f32,
    /// The first token at which the residual's running sum exceeds `noise` times its mass; where there is no
    /// mass, `argmax`.
    pub residual_sample: u32,
}

impl RowStatistics {
    /// Numbers a row has on the device.
    pub const WIDTH: usize = 8;

    fn from_row(row: &[f32]) -> Self {
        Self {
            argmax: row[0] as u32,
            max: row[1],
            log_sum_exp: row[2],
            p: row[3],
            q: row[4],
            total_variation: row[5],
            residual_mass: row[6],
            residual_sample: row[7] as u32,
        }
    }

    /// Reads the rows of [`statistics`], which is one synchronisation with the device.
    ///
    /// # Errors
    ///
    /// The device failed; the text says how.
    pub fn read(rows: Tensor<2>) -> Result<Vec<Self>, String> {
        let data = rows.try_into_data().map_err(|error| format!("{error:?}"))?;
        let values: Vec<f32> = data.try_into_vec().map_err(|error| format!("{error:?}"))?;
        Ok(values.chunks_exact(Self::WIDTH).map(Self::from_row).collect())
    }

    pub(crate) fn to_row(self) -> [f32; Self::WIDTH] {
        [
            self.argmax as f32,
            self.max,
            self.log_sum_exp,
            self.p,
            self.q,
            self.total_variation,
            self.residual_mass,
            self.residual_sample as f32,
        ]
    }
}

/// Statistics of every row, with one synchronisation with the device.
///
/// As [`statistics`], read.
///
/// # Errors
///
/// The device failed; the text says how.
///
/// # Panics
///
/// If the shapes disagree.
pub fn verify(logits: Tensor<2>, rows: &VerifyRows<'_>) -> Result<Vec<RowStatistics>, String> {
    RowStatistics::read(statistics(logits, rows))
}

/// Statistics of every row, on the device: nothing is waited for.
///
/// # Shapes
///
/// `logits` `[m, vocabulary]` f32, of at most 2^24 tokens. The result is `[m, 8]` f32, in the order of the
/// fields of [`RowStatistics`].
///
/// # Panics
///
/// If the shapes disagree.
///
/// Source: Leviathan, Kalman, Matias, "Fast Inference from Transformers via Speculative Decoding", 2023,
/// section 2.3 (the residual).
pub fn statistics(logits: Tensor<2>, rows: &VerifyRows<'_>) -> Tensor<2> {
    let ([m, vocab], device) = (logits.dims(), logits.device());
    assert!(vocab > 0 && vocab <= 1 << 24, "a vocabulary of {vocab}");
    assert_eq!((rows.drafted.len(), rows.noise.len()), (m, m), "a token and a number for each row");
    let known = |&token: &u32| (token as usize) < vocab || token == VerifyRows::NOTHING;
    assert!(rows.drafted.iter().all(known), "a token outside the vocabulary");
    assert!(rows.draft.is_none_or(|draft| draft.dims() == [m, vocab]), "shape of the draft");
    assert!(rows.temperature > 0.0, "a temperature of {}", rows.temperature);
    let drafted: Vec<i32> = rows.drafted.iter().map(|token| token.cast_signed()).collect();
    let drafted = Tensor::<1, Int>::from_data(TensorData::new(drafted, [m]), &device);
    let noise = Tensor::<1>::from_data(TensorData::new(rows.noise.to_vec(), [m]), &device);
    if is_ours(&device) {
        let draft = rows.draft.map_or(DraftOf::Point, |draft| DraftOf::Probs(draft.clone().into_dispatch()));
        let (drafted, noise) = (drafted.into_dispatch(), noise.into_dispatch());
        Tensor::<2>::from_dispatch(Dispatch::dh_verify(
            logits.into_dispatch(),
            drafted,
            noise,
            draft,
            rows.temperature,
        ))
    } else {
        portable::verify(logits, drafted, noise, rows.draft, rows.temperature)
    }
}

/// The most probable token of every row of [`statistics`], on the device; always one of the vocabulary.
pub fn argmax_of(statistics: &Tensor<2>) -> Tensor<1, Int> {
    statistics.clone().slice(s![.., 0..1]).flatten::<1>(0, 1).int()
}
