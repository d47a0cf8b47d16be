//! Attention and rotations on a GPU against the portable ones, on Vulkan in software.
#![cfg(all(feature = "gpu", feature = "cpu"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use common::{Form, HEADS, Matrix, Noise, assert_near, gpu::on_both, host, tree};
use drafthorse_kernels::{AttentionShape, HeadNorms, attention, linear, portable, rope_and_append};

#[test]
fn rotations() {
    on_both(check_rotations);
}

fn check_rotations(gpu: &Device) {
    let (cpu, mut noise) = (Device::flex(), Noise(6));
    for (heads, kv_heads, head_dim) in HEADS {
        for (m, start, dtype, normed) in [
            (1, 0, DType::F32, false),
            (1, 9, DType::F16, true),
            (5, 3, DType::F32, true),
            (17, 2, DType::F16, false),
        ] {
            let what = format!("{heads} {kv_heads} {head_dim}, {m} rows from {start}, {dtype:?}, {normed}");
            let shape = AttentionShape { heads, kv_heads, head_dim, start, window: None };
            let qkv = noise.matrix(m, (heads + 2 * kv_heads) * head_dim);
            let angles = noise.matrix(m, head_dim);
            let cache = [(); 2].map(|()| noise.matrix(20, kv_heads * head_dim));
            let norms = [(); 2].map(|()| noise.matrix(1, head_dim));
            let run = |device: &Device, ours: bool, keep: bool| {
                let [query, key] = [&norms[0], &norms[1]].map(|norm| norm.row(device));
                let norms = normed.then_some(HeadNorms { query: &query, key: &key, epsilon: 1e-6 });
                let (keys, values) = (cache[0].typed(device, dtype), cache[1].typed(device, dtype));
                let kept = keep.then(|| (keys.clone(), values.clone()));
                let (qkv, angles) = (qkv.on(device), angles.on(device));
                let operation = if ours { rope_and_append } else { portable::rope_and_append };
                let (query, (keys, values)) = operation(qkv, &angles, norms, (keys, values), shape);
                if let Some((old_keys, old_values)) = kept {
                    let before = [&cache[0], &cache[1]].map(|cache| host(cache.typed(device, dtype)));
                    assert_eq!([host(old_keys), host(old_values)], before, "{what}: another's cache changed");
                }
                [host(query), host(keys), host(values)]
            };
            let reference = run(&cpu, false, false);
            for keep in [false, true] {
                for (i, (ours, reference)) in run(gpu, true, keep).iter().zip(&reference).enumerate() {
                    let tolerance = if i > 0 && dtype == DType::F16 { 1e-3 } else { 2e-6 };
                    assert_near(ours, reference, &vec![4.0; ours.len()], tolerance, &what);
                }
            }
        }
    }
}

#[test]
fn attention_over_a_cache() {
    on_both(check_attention_over_a_cache);
}

fn check_attention_over_a_cache(gpu: &Device) {
    let (cpu, mut noise) = (Device::flex(), Noise(7));
    let calls = [
        (1, 0, None, false),
        (1, 5, Some(3), false),
        (5, 3, None, true),
        (6, 30, Some(4), true),
        (16, 0, None, false),
        (33, 4, Some(7), false),
        (18, 2, None, true),
        (1, 300, None, false),
        (3, 510, None, true),
        (4, 700, Some(200), false),
        (2, 700, Some(300), true),
    ];
    for (heads, kv_heads, head_dim) in HEADS {
        for (i, (m, start, window, is_tree)) in calls.into_iter().enumerate() {
            // Every shape is some shaders more to compile.
            if head_dim != 16 && ![2, 5, 9].contains(&i) {
                continue;
            }
            let dtype = if i % 2 == 0 { DType::F32 } else { DType::F16 };
            let what = format!("{heads} {kv_heads} {head_dim}, {m} rows from {start}, {window:?}, {is_tree}");
            let shape = AttentionShape { heads, kv_heads, head_dim, start, window };
            let query = noise.matrix(m, heads * head_dim);
            let cache = [(); 2].map(|()| noise.matrix(start + m + 3, kv_heads * head_dim));
            let sees = is_tree.then(|| tree(m, &mut noise));
            let run = |device: &Device, ours: bool| {
                let operation = if ours { attention } else { portable::attention };
                let sees = sees
                    .clone()
                    .map(|sees| Tensor::<2, Int>::from_data(TensorData::new(sees, [m, m]), device));
                let [keys, values] = [&cache[0], &cache[1]].map(|cache| cache.typed(device, dtype));
                host(operation(query.on(device), &keys, &values, sees.as_ref(), shape))
            };
            let (ours, reference) = (run(gpu, true), run(&cpu, false));
            assert_near(&ours, &reference, &vec![1.0; ours.len()], 1e-5, &what);
        }
    }
}

/// The same bits for a row alone and among others: a verify step gives what decode steps give.
#[test]
fn rows_do_not_depend_on_each_other() {
    on_both(check_rows_do_not_depend_on_each_other);
}

fn check_rows_do_not_depend_on_each_other(gpu: &Device) {
    let mut noise = Noise(10);
    for form in [Form::F16, Form::Q4] {
        let (x, weight) = (noise.matrix(9, 100), noise.matrix(8, 100));
        let weight = form.weight(&weight, gpu);
        let whole = host(linear(x.on(gpu), &weight, None));
        for rows in [0..1, 3..5, 5..9] {
            let part = host(linear(x.on(gpu).slice([rows.clone()]), &weight, None));
            assert_eq!(part, whole[8 * rows.start..8 * rows.end], "{form:?}, rows {rows:?}");
        }
    }
    let cache = [(); 2].map(|()| noise.matrix(310, 16).on(gpu));
    let query = noise.matrix(8, 32);
    for (start, window) in [(250, None), (300, Some(60))] {
        let shape = AttentionShape { heads: 2, kv_heads: 1, head_dim: 16, start, window };
        let whole = host(attention(query.on(gpu), &cache[0], &cache[1], None, shape));
        for rows in [0..1, 2..4, 3..8] {
            let shape = AttentionShape { start: start + rows.start, ..shape };
            let part = query.on(gpu).slice([rows.clone()]);
            let part = host(attention(part, &cache[0], &cache[1], None, shape));
            assert_eq!(part, whole[32 * rows.start..32 * rows.end], "attention, rows {rows:?}, {window:?}");
        }
    }
}

/// A value of the cache changes the rows that see its position, and no other.
#[test]
fn positions_are_seen_by_their_rows_alone() {
    on_both(check_positions_are_seen_by_their_rows_alone);
}

fn check_positions_are_seen_by_their_rows_alone(gpu: &Device) {
    let (mut noise, m, start) = (Noise(11), 5, 4);
    // Row 4 follows row 1, which follows row 0, as rows 2 and 3 do.
    let tree = [1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 0, 0, 1];
    let (query, keys) = (noise.matrix(m, 64).on(gpu), noise.matrix(start + m, 32).on(gpu));
    let values = noise.matrix(start + m, 32);
    for (window, is_tree) in [(None, false), (Some(3), false), (None, true), (Some(2), true)] {
        let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 16, start, window };
        let sees = Tensor::<2, Int>::from_data(TensorData::new(tree.to_vec(), [m, m]), gpu);
        let out = |values: &Matrix| {
            host(attention(query.clone(), &keys, &values.on(gpu), is_tree.then_some(&sees), shape))
        };
        let before = out(&values);
        for position in 0..start + m {
            let mut changed = values.clone();
            changed.values[position * 32..(position + 1) * 32].iter_mut().for_each(|x| *x += 1.0);
            let after = out(&changed);
            for row in 0..m {
                let depth = |row: usize| tree[row * m..(row + 1) * m].iter().sum::<i32>() as usize - 1;
                let (seen, distance) = match position.checked_sub(start) {
                    Some(column) if is_tree => {
                        (tree[row * m + column] == 1, depth(row).saturating_sub(depth(column)))
                    }
                    _ if is_tree => (true, start + depth(row) - position),
                    _ => (position <= start + row, (start + row).saturating_sub(position)),
                };
                let seen = seen && window.is_none_or(|window| distance < window);
                let same = before[row * 64..(row + 1) * 64] == after[row * 64..(row + 1) * 64];
                assert_eq!(same, !seen, "row {row}, position {position}, {window:?}, {is_tree}");
            }
        }
    }
}
