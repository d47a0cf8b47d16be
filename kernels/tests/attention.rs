//! Attention of the CPU in all it can be asked for: trees, windows, both types of cache; and the cache.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use burn::tensor::{DType, Tensor, TensorData};
use common::{
    Matrix, Noise, Values, bits, host,
    operation::{Attention, Operation, Rope, cpu},
    tree,
};
use drafthorse_kernels::{AttentionShape, HeadNorms, rope_and_append};
use proptest::{prelude::*, sample::select};

const DTYPES: [DType; 2] = [DType::F32, DType::F16];

fn small(m: usize, shape: AttentionShape, dtype: DType, seed: u64) -> Attention {
    Attention::new(m, shape, [Values::Small; 2], dtype, seed)
}

fn near(ours: &[f32], reference: &[f32]) -> bool {
    ours.len() == reference.len() && ours.iter().zip(reference).all(|(a, b)| (a - b).abs() <= 2e-5)
}

/// Ancestors of a chain.
fn chain(m: usize) -> Vec<i32> {
    (0..m * m).map(|i| i32::from(i % m <= i / m)).collect()
}

/// Depth of each row in a tree.
fn depths(tree: &[i32], m: usize) -> Vec<usize> {
    tree.chunks_exact(m).map(|row| row.iter().sum::<i32>() as usize - 1).collect()
}

/// Whether a row sees a position.
fn sees(attention: &Attention, row: usize, position: usize) -> bool {
    let (m, AttentionShape { start, window, .. }) = (attention.query.rows(), attention.shape);
    let depths = match &attention.tree {
        Some(tree) => depths(tree, m),
        None => (0..m).collect(),
    };
    let (seen, at) = match (position.checked_sub(start), &attention.tree) {
        (Some(column), _) if column >= m => return false,
        (Some(column), Some(tree)) => (tree[row * m + column] != 0, start + depths[column]),
        (Some(column), None) => (column <= row, position),
        (None, _) => (true, position),
    };
    seen && window.is_none_or(|window| at + window > start + depths[row])
}

fn shapes() -> impl Strategy<Value = AttentionShape> {
    let window = prop::option::of(1usize..20);
    let heads = select(vec![(1, 1), (2, 1), (4, 2), (6, 2), (3, 3), (5, 1), (8, 1)]);
    (heads, 1usize..40, 0usize..40, window).prop_map(|((heads, kv_heads), head_dim, start, window)| {
        AttentionShape { heads, kv_heads, head_dim, start, window }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_tree_agrees_with_the_portable_operation(
        m in 1usize..34, shape in shapes(), dtype in select(DTYPES.to_vec()), seed in any::<u64>(),
    ) {
        let mut attention = small(m, shape, dtype, seed);
        attention.tree = Some(tree(m, &mut Noise(seed)));
        prop_assert!(near(&attention.rows(0..m), &attention.portable()));
    }

    #[test]
    fn a_chain_is_a_tree(
        m in 1usize..34, shape in shapes(), dtype in select(DTYPES.to_vec()), seed in any::<u64>(),
    ) {
        let plain = small(m, shape, dtype, seed);
        let before = plain.rows(0..m);
        let as_tree = Attention { tree: Some(chain(m)), ..plain };
        prop_assert_eq!(bits(&as_tree.rows(0..m)), bits(&before));
    }

    /// A row of a tree gives what it gives when its ancestors alone are there.
    #[test]
    fn a_row_of_a_tree_is_the_end_of_its_path(
        m in 1usize..20, shape in shapes(), dtype in select(DTYPES.to_vec()), seed in any::<u64>(),
    ) {
        let mut whole = small(m, shape, dtype, seed);
        let ancestors = tree(m, &mut Noise(seed));
        whole.tree = Some(ancestors.clone());
        let out = whole.rows(0..m);
        let width = out.len() / m;
        for row in 0..m {
            let path: Vec<usize> = (0..m).filter(|column| ancestors[row * m + column] != 0).collect();
            let pick = |from: &Matrix, first: usize| {
                let rows = path.iter().flat_map(|i| from.part(first + i..first + i + 1).values);
                let values = from.part(0..first).values.into_iter().chain(rows).collect();
                Matrix { values, columns: from.columns }
            };
            let alone = Attention {
                query: pick(&whole.query, 0),
                keys: pick(&whole.keys, shape.start),
                values: pick(&whole.values, shape.start),
                tree: None,
                ..whole
            };
            let alone = alone.rows(0..path.len());
            prop_assert_eq!(bits(&out[row * width..(row + 1) * width]), bits(&alone[alone.len() - width..]), "row {}", row);
        }
    }
}

/// Shapes and trees of five rows; row 4 follows row 1, which follows row 0, as rows 2 and 3 do.
fn calls() -> Vec<Attention> {
    let ancestors = [1, 0, 0, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 1, 0, 0, 1, 0, 1, 1, 0, 0, 1];
    let mut all = Vec::new();
    for (dtype, heads, start) in
        [(DType::F32, 4, 7), (DType::F16, 4, 19), (DType::F32, 14, 3), (DType::F32, 2, 40)]
    {
        for (window, is_tree) in [
            (None, false),
            (Some(1), false),
            (Some(4), false),
            (Some(30), false),
            (None, true),
            (Some(2), true),
        ] {
            let shape = AttentionShape { heads, kv_heads: 2, head_dim: 9, start, window };
            let plain = small(5, shape, dtype, 1);
            all.push(Attention { tree: is_tree.then(|| ancestors.to_vec()), ..plain });
        }
    }
    all
}

/// The rows whose result is another after the keys and values of a position have changed.
fn changed(attention: &mut Attention, position: usize, change: impl Fn(f32) -> f32) -> Vec<usize> {
    let (m, columns) = (attention.query.rows(), attention.keys.columns);
    let before = attention.rows(0..m);
    let kept = (attention.keys.clone(), attention.values.clone());
    for cache in [&mut attention.keys, &mut attention.values] {
        cache.values[position * columns..(position + 1) * columns].iter_mut().for_each(|x| *x = change(*x));
    }
    let after = attention.rows(0..m);
    (attention.keys, attention.values) = kept;
    let width = before.len() / m;
    let row = |values: &[f32], row: usize| bits(&values[row * width..][..width]);
    (0..m).filter(|&r| row(&before, r) != row(&after, r)).collect()
}

/// A key and a value change the rows that see their position, and no others: not those of siblings, and not
/// those a window hides it from.
#[test]
fn a_position_is_seen_by_its_rows_alone() {
    for mut attention in calls() {
        for position in 0..attention.keys.rows() {
            let seen: Vec<_> = (0..5).filter(|row| sees(&attention, *row, position)).collect();
            let (shape, tree) = (attention.shape, attention.tree.is_some());
            assert_eq!(changed(&mut attention, position, |x| x + 1.0), seen, "{position}, {shape:?}, {tree}");
        }
    }
}

fn check_hidden(calls: impl Iterator<Item = Attention>) {
    for mut attention in calls {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for position in 0..attention.keys.rows() {
                let seen: Vec<_> = (0..5).filter(|row| sees(&attention, *row, position)).collect();
                let shape = attention.shape;
                assert_eq!(
                    changed(&mut attention, position, |_| value),
                    seen,
                    "{value} at {position}, {shape:?}"
                );
            }
        }
    }
}

/// Not even what is no number gets from a hidden position into a result.
#[test]
fn what_is_hidden_may_be_anything() {
    check_hidden(calls().into_iter().filter(|call| call.tree.is_none()));
}

#[test]
fn what_siblings_hold_may_be_anything() {
    check_hidden(calls().into_iter().filter(|call| call.tree.is_some()));
}

/// Values on the host, and where they are.
struct Placed {
    tensor: Tensor<2>,
    address: usize,
}

fn placed(matrix: &Matrix, dtype: DType) -> Placed {
    let data = TensorData::new(matrix.values.clone(), [matrix.rows(), matrix.columns]);
    let data = if dtype == DType::F16 { data.convert::<burn::tensor::f16>() } else { data };
    let address = data.as_bytes().as_ptr() as usize;
    Placed { tensor: Tensor::from_data(data, (&cpu(), dtype)), address }
}

fn address(tensor: Tensor<2>) -> usize {
    tensor.into_data().as_bytes().as_ptr() as usize
}

fn call(dtype: DType) -> (Rope, [Matrix; 2]) {
    let shape = AttentionShape { heads: 4, kv_heads: 2, head_dim: 6, start: 3, window: None };
    let rope = Rope::new(4, shape, Values::Small, true, dtype, 1);
    (rope, [2, 3].map(|seed| Matrix::new(Values::Small, seed, [9, 12])))
}

type Caches = (Tensor<2>, Tensor<2>);

fn append_to(rope: &Rope, cache: Caches) -> Caches {
    let [query, key] = rope.norms.as_ref().unwrap().each_ref().map(|norm| norm.row(&cpu()));
    let norms = HeadNorms { query: &query, key: &key, epsilon: 1e-5 };
    rope_and_append(rope.qkv.on(&cpu()), &rope.angles.on(&cpu()), Some(norms), cache, rope.shape).1
}

#[test]
fn a_cache_nobody_else_holds_is_written_in_place() {
    for dtype in DTYPES {
        let (rope, caches) = call(dtype);
        // The way to see it: what merely comes and goes stays where it is.
        let kept = placed(&caches[0], dtype);
        assert_eq!(address(kept.tensor), kept.address);
        let [keys, values] = caches.each_ref().map(|cache| placed(cache, dtype));
        let out = append_to(&rope, (keys.tensor, values.tensor));
        assert_eq!((address(out.0), address(out.1)), (keys.address, values.address), "{dtype:?}");
    }
}

#[test]
fn a_cache_somebody_else_holds_is_not_changed() {
    for dtype in DTYPES {
        let (rope, caches) = call(dtype);
        let [keys, values] = caches.each_ref().map(|cache| placed(cache, dtype));
        let held = (keys.tensor.clone(), values.tensor.clone());
        let out = append_to(&rope, (keys.tensor, values.tensor));
        let before = caches.each_ref().map(|cache| bits(&host(cache.typed(&cpu(), dtype))));
        let after = [held.0.clone(), held.1.clone()].map(|cache| bits(&host(cache)));
        assert!(after == before, "{dtype:?}: another's cache changed");
        let alone = caches.each_ref().map(|cache| cache.typed(&cpu(), dtype));
        let alone = append_to(&rope, alone.into());
        assert_eq!(bits(&host(out.0.clone())), bits(&host(alone.0)));
        assert_eq!(bits(&host(out.1.clone())), bits(&host(alone.1)));
        assert!(address(out.0) != keys.address && address(out.1) != values.address);
    }
}

#[test]
fn other_rows_of_the_cache_stay_as_they_are() {
    for dtype in DTYPES {
        let (rope, caches) = call(dtype);
        let old = caches.each_ref().map(|cache| host(cache.typed(&cpu(), dtype)));
        let (keys, values) =
            append_to(&rope, caches.each_ref().map(|cache| cache.typed(&cpu(), dtype)).into());
        for (old, new) in old.iter().zip([host(keys), host(values)]) {
            for row in 0..9 {
                let part = row * 12..(row + 1) * 12;
                let same = bits(&old[part.clone()]) == bits(&new[part]);
                assert_eq!(same, !(3..7).contains(&row), "{dtype:?}: row {row}");
            }
        }
    }
}
