//! Rows of logits, and what is to be known of them.

use super::Noise;
use drafthorse_kernels::{RowStatistics, portable};

/// Rows of logits of many kinds.
pub(crate) fn logits(kind: usize, vocab: usize, noise: &mut Noise) -> Vec<f32> {
    let mut row = noise.values(vocab);
    match kind {
        0 => row.iter_mut().for_each(|x| *x *= 3.0),
        // Peaked.
        1 => row[noise.below(vocab)] = 30.0,
        // Flat: the first token is the argmax.
        2 => row.fill(0.5),
        // Ties.
        3 => row.iter_mut().for_each(|x| *x = (*x * 2.0).round()),
        // Tokens that are forbidden, whole chunks of them.
        4 => {
            let forbidden = (0..vocab).filter(|i| i / 50 % 2 == 0 && *i != vocab / 2);
            forbidden.for_each(|i| row[i] = f32::NEG_INFINITY);
        }
        _ => row.iter_mut().for_each(|x| *x = *x * 20.0 - 60.0),
    }
    row
}

pub(crate) fn softmax(row: &[f32], temperature: f64) -> Vec<f32> {
    let scaled = |x: &f32| f64::from(*x) / temperature;
    let max = row.iter().map(scaled).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = row.iter().map(|x| (scaled(x) - max).exp()).sum();
    row.iter().map(|x| ((scaled(x) - max).exp() / sum) as f32).collect()
}

/// Says what is wrong with statistics of a row; whether the sample is the very one of the reference.
pub(crate) fn check_row(
    ours: &RowStatistics,
    logits: &[f32],
    drafted: usize,
    noise: f32,
    draft: Option<&[f32]>,
    temperature: f64,
) -> Result<bool, String> {
    let reference = portable::verify_row(logits, drafted, noise, draft, temperature);
    let near = |a: f32, b: f32| (a - b).abs() <= 2e-5 * (1.0 + b.abs());
    let same = ours.argmax == reference.argmax
        && near(ours.max, reference.max)
        && near(ours.log_sum_exp, reference.log_sum_exp)
        && near(ours.p, reference.p)
        && ours.q == reference.q
        && near(ours.total_variation, reference.total_variation)
        && near(ours.residual_mass, reference.residual_mass);
    // The sample may be another one only where rounding decides.
    let p = softmax(logits, temperature);
    let q = |token: usize| draft.map_or(f32::from(u8::from(token == drafted)), |draft| draft[token]);
    let residual = |token: usize| f64::from((p[token] - q(token)).max(0.0));
    let sample = ours.residual_sample as usize;
    let sum = |end: usize| (0..end).map(residual).sum::<f64>();
    let target = f64::from(noise) * f64::from(reference.residual_mass);
    let fair = sum(sample) <= target + 1e-4 && sum(sample + 1) >= target - 1e-4;
    if same && fair {
        Ok(sample == reference.residual_sample as usize)
    } else {
        Err(format!("{ours:?}, not {reference:?}"))
    }
}
