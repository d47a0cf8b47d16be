//! The statistics that acceptance rules need: against sums written down plainly, and the law of sampling
//! they are for.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use burn::tensor::{Tensor, TensorData};
use common::{
    Noise,
    operation::cpu,
    rows::{check_row, logits, softmax},
};
use drafthorse_kernels::{RowStatistics, VerifyRows, portable, verify};
use proptest::{prelude::*, sample::select};

/// A question about rows that all have the same number of tokens.
struct Question {
    logits: Vec<Vec<f32>>,
    drafted: Vec<u32>,
    noise: Vec<f32>,
    draft: Option<Vec<Vec<f32>>>,
    temperature: f64,
}

fn on_device(rows: &[Vec<f32>]) -> Tensor<2> {
    Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), rows[0].len()]), &cpu())
}

impl Question {
    fn random(m: usize, vocab: usize, with_draft: bool, temperature: f64, seed: u64) -> Self {
        let mut noise = Noise(seed);
        let logits: Vec<_> = (0..m).map(|row| logits(row % 6, vocab, &mut noise)).collect();
        let drafted: Vec<_> = (0..m).map(|_| noise.below(vocab) as u32).collect();
        let draft = with_draft.then(|| {
            let row = |row: usize| match row % 4 {
                0 => softmax(&logits[row], temperature),
                1 => vec![0.0; vocab],
                2 => (0..vocab).map(|i| f32::from(u8::from(i == drafted[row] as usize))).collect(),
                _ => softmax(&Noise(seed ^ row as u64).values(vocab), 0.3),
            };
            (0..m).map(row).collect()
        });
        let random = (0..m).map(|row| [0.0, 0.999_999_94, noise.uniform()][row.min(2)]).collect();
        Self { logits, drafted, noise: random, draft, temperature }
    }

    fn ask(&self) -> Vec<RowStatistics> {
        let draft = self.draft.as_ref().map(|draft| on_device(draft));
        let (drafted, noise) = (&self.drafted[..], &self.noise[..]);
        let rows = VerifyRows { drafted, noise, draft: draft.as_ref(), temperature: self.temperature };
        verify(on_device(&self.logits), &rows).unwrap()
    }
}

/// The numbers of a row as their bits.
fn key(row: &RowStatistics) -> [u32; 8] {
    let floats = [row.max, row.log_sum_exp, row.p, row.q, row.total_variation, row.residual_mass];
    let [a, b, c, d, e, f] = floats.map(f32::to_bits);
    [row.argmax, a, b, c, d, e, f, row.residual_sample]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn the_device_says_what_the_host_says(
        m in 1usize..34, vocab in prop_oneof![1usize..40, 100usize..400], with_draft in any::<bool>(),
        temperature in select(vec![0.2, 0.7, 1.0, 1.7]), seed in any::<u64>(),
    ) {
        let question = Question::random(m, vocab, with_draft, temperature, seed);
        let rows = question.ask();
        prop_assert_eq!(rows.len(), m);
        for (i, ours) in rows.iter().enumerate() {
            let draft = question.draft.as_ref().map(|draft| draft[i].as_slice());
            let (logits, drafted) = (&question.logits[i], question.drafted[i] as usize);
            let host = portable::verify_row(logits, drafted, question.noise[i], draft, temperature);
            prop_assert_eq!(key(ours), key(&host), "row {}", i);
            let near = |a: f32, b: f64| (f64::from(a) - b).abs() < 1e-5;
            // The same from its definition.
            let p: Vec<f64> = softmax(logits, temperature).into_iter().map(f64::from).collect();
            let q = |token: usize| match draft {
                Some(draft) => f64::from(draft[token]),
                None => f64::from(u8::from(token == drafted)),
            };
            let overlap: f64 = (0..vocab).map(|token| p[token].min(q(token))).sum();
            let mass_of_q: f64 = (0..vocab).map(q).sum();
            prop_assert!(near(ours.residual_mass, 1.0 - overlap));
            prop_assert!(near(2.0 * ours.total_variation, 1.0 + mass_of_q - 2.0 * overlap));
            prop_assert!(near(ours.p, p[drafted]) && near(ours.q, q(drafted)));
            let first = |token: usize| (0..token).all(|other| logits[other] < logits[token]);
            let best = ours.argmax as usize;
            prop_assert!(first(best) && logits.iter().all(|x| *x <= logits[best]));
            // A sample is a token the residual has; the drafted token, if it was certain, is none.
            let sample = ours.residual_sample as usize;
            if ours.residual_mass > 1e-6 {
                prop_assert!(p[sample] > q(sample) - 1e-9, "token {}", sample);
                prop_assert!(draft.is_some() || sample != drafted);
            }
        }
    }
}

/// What was said of a row is compared number by number.
#[test]
fn a_wrong_number_is_seen() {
    let question = Question::random(6, 50, true, 1.0, 3);
    for (i, row) in question.ask().into_iter().enumerate() {
        let draft = question.draft.as_ref().map(|draft| draft[i].as_slice());
        let (logits, drafted) = (&question.logits[i], question.drafted[i] as usize);
        let check = |row: &RowStatistics| check_row(row, logits, drafted, question.noise[i], draft, 1.0);
        assert_eq!(check(&row), Ok(true));
        assert!(check(&RowStatistics { p: row.p + 1e-3, ..row }).is_err());
        assert!(check(&RowStatistics { log_sum_exp: row.log_sum_exp + 1e-3, ..row }).is_err());
        assert!(check(&RowStatistics { total_variation: row.total_variation + 1e-3, ..row }).is_err());
    }
}

const STEPS: usize = 4000;

/// How often each token is the sample of the residual when the noise goes through its range in even steps.
fn frequencies(logits: &[f32], drafted: usize, draft: Option<&[f32]>) -> Vec<f64> {
    let question = Question {
        logits: vec![logits.to_vec(); STEPS],
        drafted: vec![drafted as u32; STEPS],
        noise: (0..STEPS).map(|step| (step as f32 + 0.5) / STEPS as f32).collect(),
        draft: draft.map(|draft| vec![draft.to_vec(); STEPS]),
        temperature: 1.0,
    };
    let mut counts = vec![0.0; logits.len()];
    for row in question.ask() {
        counts[row.residual_sample as usize] += 1.0 / STEPS as f64;
    }
    counts
}

/// Even steps hit a stretch of length `l` as often as they should, but for one step.
fn follows(frequencies: &[f64], law: &[f64]) -> bool {
    let sum: f64 = law.iter().sum();
    frequencies.iter().zip(law).all(|(a, b)| (a - b / sum).abs() <= 1.0 / STEPS as f64 + 1e-6)
}

/// Rows with a drafter's distribution and what is drafted from it.
fn rows(vocab: usize) -> impl Iterator<Item = (Vec<f32>, Vec<f32>, usize)> {
    (0..10).map(move |seed| {
        let mut noise = Noise(seed);
        let (logits, q) = (logits(seed as usize % 6, vocab, &mut noise), noise.values(vocab));
        (logits, softmax(&q, 0.4), noise.below(vocab))
    })
}

#[test]
fn samples_follow_the_residual() {
    let mut seen = 0;
    for (logits, q, drafted) in rows(23) {
        let p: Vec<f64> = softmax(&logits, 1.0).into_iter().map(f64::from).collect();
        let residual: Vec<f64> = p.iter().zip(&q).map(|(p, q)| (p - f64::from(*q)).max(0.0)).collect();
        let sampled = frequencies(&logits, drafted, Some(&q));
        assert!(follows(&sampled, &residual), "{sampled:?} {residual:?}");
        let without: Vec<f64> = (0..23).map(|i| if i == drafted { 0.0 } else { p[i] }).collect();
        let sampled_without = frequencies(&logits, drafted, None);
        assert!(follows(&sampled_without, &without), "{sampled_without:?} {without:?}");
        // The comparison sees samples of the expert instead.
        seen += usize::from(!follows(&sampled, &p)) + usize::from(!follows(&sampled_without, &p));
    }
    assert!(seen > 10, "{seen} of 20");
}

/// What the numbers are for: a token drafted from q, kept with probability p / q and replaced by a sample
/// of the residual where not, is a sample of p.
#[test]
fn kept_and_replaced_tokens_follow_the_expert() {
    for (logits, q, _) in rows(12) {
        let p = softmax(&logits, 1.0);
        let question = Question {
            logits: vec![logits.clone(); 12],
            drafted: (0..12).collect(),
            noise: vec![0.5; 12],
            draft: Some(vec![q.clone(); 12]),
            temperature: 1.0,
        };
        let (mut law, mut credulous) = (vec![0.0; 12], vec![0.0; 12]);
        for (token, row) in question.ask().iter().enumerate() {
            let keep = f64::from((row.p / row.q).min(1.0));
            law[token] += f64::from(row.q) * keep;
            credulous[token] += f64::from(row.q);
            let sampled = frequencies(&logits, token, Some(&q));
            for (law, frequency) in law.iter_mut().zip(sampled) {
                *law += f64::from(row.q) * (1.0 - keep) * frequency;
            }
        }
        let near = |law: &[f64]| law.iter().zip(&p).all(|(a, b)| (a - f64::from(*b)).abs() < 1e-3);
        assert!(near(&law), "{law:?} {p:?}");
        assert!(!near(&credulous), "tokens that are always kept are seen");
    }
}
