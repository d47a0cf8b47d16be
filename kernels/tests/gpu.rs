//! Linear layers, embeddings, norms and statistics on a GPU against the portable ones, on Vulkan in software.
//!
//! Tolerances are relative to the sums of absolute products.
#![cfg(all(feature = "gpu", feature = "cpu"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use burn::tensor::{Device, Tensor, TensorData};
use common::{
    FORMS, Matrix, Noise, assert_near,
    gpu::{device, on_both},
    host, indices,
    rows::{check_row, logits, softmax},
};
use drafthorse_kernels::{
    RowStatistics, VerifyRows, Weight, embed, gated_linear, linear, linear_add, portable, rms_norm, verify,
};

#[test]
fn linear_layers() {
    on_both(check_linear_layers);
}

fn check_linear_layers(gpu: &Device) {
    let (cpu, mut noise) = (Device::flex(), Noise(1));
    let shapes = [
        (1, 64, 96),
        (1, 1, 1),
        (1, 2051, 40),
        (2, 7, 64),
        (3, 33, 40),
        (4, 5, 30),
        (5, 1, 36),
        (7, 37, 33),
        (8, 4101, 12),
        (16, 9, 100),
        (17, 10, 20),
        (33, 19, 31),
    ];
    for form in FORMS {
        for (m, n, k) in shapes {
            let what = format!("{form:?} {m} {n} {k}");
            let (x, weight) = (noise.matrix(m, k), noise.matrix(n, k));
            let (bias, residual) = (noise.matrix(1, n), noise.matrix(m, n));
            let (ours, [dense, sizes]) = (form.weight(&weight, gpu), form.reference(&weight));
            let reference = portable::linear(x.on(&cpu), &dense, None);
            let sizes = host(portable::linear(x.abs().on(&cpu), &sizes, None).add_scalar(1.0));
            let out = linear(x.on(gpu), &ours, None);
            assert_near(&host(out), &host(reference.clone()), &sizes, 1e-5, &what);
            // Every epilogue is one more shader to compile.
            if m % 2 == 0 {
                let biased = reference.clone() + bias.row(&cpu).unsqueeze();
                let out = linear(x.on(gpu), &ours, Some(&bias.row(gpu)));
                assert_near(&host(out), &host(biased), &sizes, 1e-5, &what);
            } else if m == 1 {
                let out = linear_add(x.on(gpu), &ours, None, residual.on(gpu));
                assert_near(&host(out), &host(reference + residual.on(&cpu)), &sizes, 1e-5, &what);
            } else if m == 3 {
                let all = reference + residual.on(&cpu) + bias.row(&cpu).unsqueeze();
                let out = linear_add(x.on(gpu), &ours, Some(&bias.row(gpu)), residual.on(gpu));
                assert_near(&host(out), &host(all), &sizes, 1e-5, &what);
            }
        }
    }
}

#[test]
fn gated_layers() {
    on_both(check_gated_layers);
}

fn check_gated_layers(gpu: &Device) {
    let (cpu, mut noise) = (Device::flex(), Noise(2));
    for form in FORMS {
        for (m, f, k) in [(1, 33, 64), (1, 1, 7), (5, 8, 36), (18, 9, 96)] {
            let (x, weight) = (noise.matrix(m, k), noise.matrix(2 * f, k));
            let (ours, [dense, sizes]) = (form.weight(&weight, gpu), form.reference(&weight));
            let reference = portable::gated_linear(x.on(&cpu), &dense);
            let sizes = portable::linear(x.abs().on(&cpu), &sizes, None);
            let half = |range: std::ops::Range<usize>| sizes.clone().slice([0..m, range]).add_scalar(1.0);
            let sizes = host(half(0..f) * half(f..2 * f));
            let out = host(gated_linear(x.on(gpu), &ours));
            assert_near(&out, &host(reference), &sizes, 1e-5, &format!("{form:?} {m} {f} {k}"));
        }
    }
}

/// The comparison sees a single weight that is another.
#[test]
fn a_changed_weight_is_seen() {
    on_both(check_a_changed_weight_is_seen);
}

fn check_a_changed_weight_is_seen(gpu: &Device) {
    let mut noise = Noise(3);
    for form in FORMS {
        let (x, weight) = (noise.matrix(2, 64), noise.matrix(6, 64));
        let mut changed = weight.clone();
        changed.values[3 * 64 + 63] += 0.5;
        let out = |weight: &Matrix| host(linear(x.on(gpu), &form.weight(weight, gpu), None));
        let (before, after) = (out(&weight), out(&changed));
        for (i, (before, after)) in before.iter().zip(&after).enumerate() {
            assert_eq!((before - after).abs() > 1e-3, i % 6 == 3, "{form:?}: value {i}, {before}, {after}");
        }
    }
}

#[test]
fn embeddings() {
    let Some(gpu) = device() else { return };
    let mut noise = Noise(4);
    for form in FORMS {
        for (n, k) in [(9, 64), (5, 36), (4, 33), (3, 1)] {
            let weight = noise.matrix(n, k);
            let ids: Vec<usize> = (0..7).map(|_| noise.below(n)).collect();
            let [dense, _] = form.reference(&weight);
            let reference = host(portable::embed(&dense, indices(&ids, &Device::flex())));
            let out = host(embed(&form.weight(&weight, &gpu), indices(&ids, &gpu)));
            assert_eq!(out, reference, "{form:?} {n} {k}");
        }
    }
}

#[test]
fn norms() {
    on_both(check_norms);
}

fn check_norms(gpu: &Device) {
    let (cpu, mut noise) = (Device::flex(), Noise(5));
    for (m, k) in [(1, 1), (1, 64), (3, 33), (17, 128)] {
        let (x, weight) = (noise.matrix(m, k), noise.matrix(1, k));
        let reference = host(portable::rms_norm(x.on(&cpu), &weight.row(&cpu), 1e-5));
        let out = host(rms_norm(x.on(gpu), &weight.row(gpu), 1e-5));
        assert_near(&out, &reference, &vec![4.0; m * k], 1e-6, &format!("{m} {k}"));
    }
}

#[test]
fn statistics_of_rows() {
    on_both(check_statistics_of_rows);
}

fn check_statistics_of_rows(gpu: &Device) {
    let mut noise = Noise(8);
    let (mut rows, mut exact) = (0, 0);
    for vocab in [1, 7, 100, 5003, 32_000] {
        for (m, temperature, with_draft) in
            [(1, 1.0, false), (6, 0.7, true), (12, 1.3, false), (12, 1.0, true)]
        {
            let logits: Vec<Vec<f32>> = (0..m).map(|row| logits(row % 6, vocab, &mut noise)).collect();
            let drafted: Vec<u32> = (0..m).map(|_| noise.below(vocab) as u32).collect();
            let random: Vec<f32> = (0..m).map(|row| if row == 5 { 0.0 } else { noise.uniform() }).collect();
            let draft: Vec<Vec<f32>> = (0..m)
                .map(|row| match row % 5 {
                    // The expert's own distribution, a point, nothing, another distribution.
                    0 => softmax(&logits[row], temperature),
                    1 => (0..vocab).map(|i| f32::from(u8::from(i == drafted[row] as usize))).collect(),
                    2 => vec![0.0; vocab],
                    _ => softmax(&noise.values(vocab), 0.3),
                })
                .collect();
            let on_gpu =
                |rows: &[Vec<f32>]| Tensor::<2>::from_data(TensorData::new(rows.concat(), [m, vocab]), gpu);
            let draft_on_gpu = with_draft.then(|| on_gpu(&draft));
            let question =
                VerifyRows { drafted: &drafted, noise: &random, draft: draft_on_gpu.as_ref(), temperature };
            let ours = verify(on_gpu(&logits), &question).unwrap();
            for (row, ours) in ours.iter().enumerate() {
                let draft = with_draft.then_some(draft[row].as_slice());
                let check = |ours| {
                    check_row(ours, &logits[row], drafted[row] as usize, random[row], draft, temperature)
                };
                let same = check(ours).unwrap_or_else(|error| panic!("{vocab}, row {row}: {error}"));
                // Where p and q are equal, what is left of them is rounding.
                if ours.residual_mass > 1e-3 {
                    rows += 1;
                    exact += usize::from(same);
                }
                // The check sees other values.
                let wrong = RowStatistics { residual_mass: ours.residual_mass + 1e-3, ..*ours };
                assert!(check(&wrong).is_err());
                assert!(check(&RowStatistics { argmax: ours.argmax + 1, ..*ours }).is_err());
            }
        }
    }
    assert!(rows > 100 && exact * 20 > rows * 19, "{exact} samples of {rows} are those of the reference");
}

/// Rows without a drafted token are drawn from all of p.
#[test]
fn statistics_where_nothing_is_drafted() {
    on_both(|gpu| {
        let mut noise = Noise(21);
        for vocab in [1, 7, 5003] {
            let logits: Vec<Vec<f32>> = (0..6).map(|row| logits(row, vocab, &mut noise)).collect();
            let drafted =
                [0, VerifyRows::NOTHING, 0, VerifyRows::NOTHING, VerifyRows::NOTHING, VerifyRows::NOTHING];
            let random: Vec<f32> = (0..6).map(|_| noise.uniform()).collect();
            let question = VerifyRows { drafted: &drafted, noise: &random, draft: None, temperature: 0.8 };
            let tensor = Tensor::<2>::from_data(TensorData::new(logits.concat(), [6, vocab]), gpu);
            for (row, ours) in verify(tensor, &question).unwrap().iter().enumerate() {
                let token = drafted[row] as usize;
                check_row(ours, &logits[row], token, random[row], None, 0.8)
                    .unwrap_or_else(|error| panic!("{vocab}, row {row}: {error}"));
                if drafted[row] == VerifyRows::NOTHING {
                    assert_eq!((ours.p, ours.q), (0.0, 0.0));
                    assert!((ours.residual_mass - 1.0).abs() < 1e-4);
                }
            }
        }
    });
}

/// One NaN or `+inf` among many logits is seen in the largest, wherever it stands; `-inf` is no fault.
#[test]
fn statistics_of_unusable_rows() {
    on_both(|gpu| {
        let mut noise = Noise(22);
        for vocab in [3, 5003] {
            for (bad, at) in [f32::NAN, -f32::NAN, f32::INFINITY]
                .into_iter()
                .flat_map(|bad| [0, vocab / 2, vocab - 1].map(|at| (bad, at)))
            {
                let mut row = noise.values(2 * vocab);
                row[vocab + at] = bad;
                row[usize::from(at == 0)] = f32::NEG_INFINITY;
                let tensor = Tensor::<2>::from_data(TensorData::new(row, [2, vocab]), gpu);
                let question =
                    VerifyRows { drafted: &[0, 0], noise: &[0.5, 0.5], draft: None, temperature: 2.0 };
                let ours = verify(tensor, &question).unwrap();
                assert!(ours[0].max.abs() < 1.0 && ours[0].log_sum_exp.is_finite(), "{:?}", ours[0]);
                assert!(ours[1].max.is_nan() || ours[1].max >= 1e38 / 2.0, "{bad} at {at}: {:?}", ours[1]);
            }
        }
    });
}

/// Matrices in parts, as a device needs them whose buffers are small.
#[test]
fn weights_in_parts() {
    let Some(gpu) = device() else { return };
    let mut noise = Noise(9);
    let (x, weight, bias) = (noise.matrix(3, 36), noise.matrix(10, 36), noise.matrix(1, 10));
    let ids: Vec<usize> = (0..10).rev().collect();
    for form in FORMS {
        let whole = form.weight(&weight, &gpu);
        let part = |rows: std::ops::Range<usize>| {
            let values = weight.values[rows.start * 36..rows.end * 36].to_vec();
            form.weight(&Matrix { values, columns: 36 }, &gpu)
        };
        let parts = Weight::parts(vec![part(0..4), part(4..5), part(5..10)]);
        let out = |weight: &Weight| {
            let product = host(linear(x.on(&gpu), weight, Some(&bias.row(&gpu))));
            [product, host(embed(weight, indices(&ids, &gpu))), host(gated_linear(x.on(&gpu), weight))]
        };
        let ([product, rows, _], [whole_product, whole_rows, _]) = (out(&parts), out(&whole));
        assert_eq!((product, rows), (whole_product, whole_rows), "{form:?}");
        let halves = Weight::parts(vec![part(0..5), part(5..10)]);
        let (gated, whole_gated) = (out(&halves)[2].clone(), out(&whole)[2].clone());
        assert_near(&gated, &whole_gated, &[1.0; 15], 1e-5, "gated");
    }
}
