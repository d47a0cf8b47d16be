//! What is made of the rows of a forward: logits on the host, or answers from the device.

use crate::{ModelError, language_model::answer_rows};
use burn::tensor::Tensor;
use drafthorse_kernels::{RowStatistics, VerifyRows};
use drafthorse_logits::{Logits, RowAnswer, RowQuestion, TokenId};

/// Brings rows to the host, shared out by their numbers.
pub(super) fn read(
    logits: Option<Tensor<2>>,
    rows: &[usize],
    vocab: usize,
) -> Result<Vec<Logits>, ModelError> {
    let Some(logits) = logits else {
        return Ok(rows.iter().map(|_| Logits::new(Vec::new(), vocab)).collect());
    };
    let failed = |message: String| ModelError::Backend { message };
    let data = logits.try_into_data().map_err(|error| failed(format!("{error:?}")))?;
    let mut rest: Vec<f32> = data.try_into_vec().map_err(|error| failed(format!("{error:?}")))?;
    // No copy for the last segment, which as a rule is the only one.
    let mut take = |rows: usize| {
        let after = rest.split_off(rows * vocab);
        Logits::new(std::mem::replace(&mut rest, after), vocab)
    };
    Ok(rows.iter().map(|&rows| take(rows)).collect())
}

/// The answers of rows where they lie; a few numbers a row come to the host.
///
/// A row that looks unusable is brought there all the same, where [`RowQuestion::answer`] decides.
pub(super) fn answer(
    logits: Option<Tensor<2>>,
    questions: &[RowQuestion],
    temperature: f32,
) -> Result<Vec<RowAnswer>, ModelError> {
    let Some(logits) = logits else { return Ok(Vec::new()) };
    let [rows, vocab] = logits.dims();
    // The most probable token is the same at every temperature.
    let sharp = temperature == 0.0;
    let scale = if sharp { 1.0 } else { f64::from(temperature) };
    let found = fetch(statistics(logits.clone(), questions, scale))?;
    if found.iter().any(|row| !is_usable(row, scale)) {
        return Ok(answer_rows(&read(Some(logits), &[rows], vocab)?, questions, temperature)?);
    }
    let answer = |(row, question): (&RowStatistics, &RowQuestion)| {
        if sharp {
            let probability = f64::from(u8::from(question.drafted == Some(row.argmax)));
            return RowAnswer { probability, token: row.argmax };
        }
        let probability = if question.drafted.is_some() { f64::from(row.p) } else { 0.0 };
        RowAnswer { probability, token: row.residual_sample }
    };
    Ok(found.iter().zip(questions).map(answer).collect())
}

/// What the device says of rows at a temperature above 0; nothing is waited for.
pub(super) fn statistics(logits: Tensor<2>, questions: &[RowQuestion], temperature: f64) -> Tensor<2> {
    let drafted: Vec<_> = questions.iter().map(|row| row.drafted.unwrap_or(VerifyRows::NOTHING)).collect();
    let noise: Vec<_> = questions.iter().map(|row| below_one(row.noise)).collect();
    let asked = VerifyRows { drafted: &drafted, noise: &noise, draft: None, temperature };
    drafthorse_kernels::statistics(logits, &asked)
}

/// The most probable tokens of rows whose statistics were made at temperature 1; `None` where a row looks
/// unusable.
pub(super) fn greedy(statistics: Tensor<2>) -> Result<Option<Vec<TokenId>>, ModelError> {
    let found = fetch(statistics)?;
    Ok(found.iter().map(|row| is_usable(row, 1.0).then_some(row.argmax)).collect())
}

fn fetch(statistics: Tensor<2>) -> Result<Vec<RowStatistics>, ModelError> {
    RowStatistics::read(statistics).map_err(|message| ModelError::Backend { message })
}

/// Whether a row holds numbers, the largest of them an ordinary one.
fn is_usable(row: &RowStatistics, temperature: f64) -> bool {
    row.log_sum_exp.is_finite() && (f64::from(row.max) * temperature).abs() < 1e30
}

/// Rounding must not make a 1 of a number below it.
fn below_one(noise: f64) -> f32 {
    (noise as f32).min(1.0 - f32::EPSILON / 2.0)
}
