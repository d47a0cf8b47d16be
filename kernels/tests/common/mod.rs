//! What several tests need: numbers that look random, weights in every form, comparisons.
#![allow(dead_code, reason = "each test uses a part")]

#[cfg(feature = "gpu")]
pub(crate) mod gpu;
pub(crate) mod operation;
pub(crate) mod rows;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use drafthorse_kernels::{BlockFormat, Weight, portable};
use std::ops::Range;

/// Numbers that look random, the same in every run.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    /// Uniform in `[0, 1)`.
    pub(crate) fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.uniform() * end as f32) as usize
    }

    /// `count` numbers between -1 and 1.
    pub(crate) fn values(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| 2.0 * self.uniform() - 1.0).collect()
    }

    /// The same values on both devices.
    pub(crate) fn matrix(&mut self, rows: usize, columns: usize) -> Matrix {
        Matrix { values: self.values(rows * columns), columns }
    }
}

/// A matrix on the host.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    pub(crate) values: Vec<f32>,
    pub(crate) columns: usize,
}

impl Matrix {
    pub(crate) fn new(values: Values, seed: u64, [rows, columns]: [usize; 2]) -> Self {
        Self { values: values.make(seed, rows * columns), columns }
    }

    pub(crate) fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    pub(crate) fn part(&self, rows: Range<usize>) -> Self {
        Self { values: self.values[rows.start * self.columns..rows.end * self.columns].to_vec(), ..*self }
    }

    pub(crate) fn largest(&self) -> f32 {
        self.values.iter().fold(0.0, |largest, value| largest.max(value.abs()))
    }

    pub(crate) fn on(&self, device: &Device) -> Tensor<2> {
        self.typed(device, DType::F32)
    }

    pub(crate) fn typed(&self, device: &Device, dtype: DType) -> Tensor<2> {
        let rows = self.values.len() / self.columns;
        Tensor::from_data(TensorData::new(self.values.clone(), [rows, self.columns]), (device, dtype))
    }

    /// All values as a vector.
    pub(crate) fn row(&self, device: &Device) -> Tensor<1> {
        let count = self.values.len();
        Tensor::from_data(TensorData::new(self.values.clone(), [count]), device)
    }

    pub(crate) fn abs(&self) -> Self {
        Self { values: self.values.iter().map(|x| x.abs()).collect(), columns: self.columns }
    }
}

/// What values look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Values {
    Zeros,
    /// Between -1 and 1.
    Small,
    /// Between -10000 and 10000.
    Large,
    /// Zeros, ones, and values of very different size next to each other.
    Mixed,
}

impl Values {
    /// `count` values that follow from a seed.
    pub(crate) fn make(self, seed: u64, count: usize) -> Vec<f32> {
        let mut noise = Noise(seed);
        let mut value = || {
            let unit = 2.0 * noise.uniform() - 1.0;
            match self {
                Self::Zeros => 0.0,
                Self::Small => unit,
                Self::Large => unit * 1e4,
                Self::Mixed => [0.0, 1.0, -1.0, unit, unit * 1e4, unit * 1e-3][noise.below(6)],
            }
        };
        (0..count).map(|_| value()).collect()
    }
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

pub(crate) fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.cast(DType::F32).try_into_data().unwrap().try_into_vec().unwrap()
}

pub(crate) fn indices(ids: &[usize], device: &Device) -> Tensor<1, Int> {
    let ids: Vec<i32> = ids.iter().map(|&id| i32::try_from(id).unwrap()).collect();
    let count = ids.len();
    Tensor::from_data(TensorData::new(ids, [count]), device)
}

#[track_caller]
pub(crate) fn assert_near(ours: &[f32], reference: &[f32], sizes: &[f32], tolerance: f32, what: &str) {
    assert_eq!((ours.len(), ours.len()), (reference.len(), sizes.len()), "{what}");
    for (i, ((a, b), size)) in ours.iter().zip(reference).zip(sizes).enumerate() {
        assert!((a - b).abs() <= tolerance * size + 1e-6, "{what}: value {i} is {a}, not {b}");
    }
}

/// How a weight is held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Form {
    F32,
    F16,
    Q8,
    Q4,
    /// Parts of three forms.
    Parts,
}

pub(crate) const FORMS: [Form; 4] = [Form::F32, Form::F16, Form::Q8, Form::Q4];

impl Form {
    pub(crate) fn weight(self, values: &Matrix, device: &Device) -> Weight {
        match self {
            Self::F32 => values.on(device).into(),
            Self::F16 => values.typed(device, DType::F16).into(),
            Self::Q8 => Weight::quantize(&values.values, values.columns, BlockFormat::Q8, device),
            Self::Q4 => Weight::quantize(&values.values, values.columns, BlockFormat::Q4, device),
            Self::Parts => {
                let (n, forms) = (values.rows(), [Self::F32, Self::Q8, Self::F16]);
                let ends = [0, n.div_ceil(3), n.div_ceil(2), n];
                let parts = (0..3).filter(|&i| ends[i] < ends[i + 1]);
                let part = |i: usize| forms[i].weight(&values.part(ends[i]..ends[i + 1]), device);
                Weight::parts(parts.map(part).collect())
            }
        }
    }

    /// The values the weight stands for, as f32 on the CPU, and their absolute values.
    pub(crate) fn reference(self, values: &Matrix) -> [Weight; 2] {
        let weight = portable::dense(&self.weight(values, &Device::flex())).cast(DType::F32);
        [weight.clone().into(), weight.abs().into()]
    }
}

/// Heads, key heads, length of a head.
pub(crate) const HEADS: [(usize, usize, usize); 3] = [(4, 2, 16), (3, 3, 6), (6, 1, 64)];

/// Ancestors of rows whose parents are drawn from `noise`; some rows have none.
pub(crate) fn tree(m: usize, noise: &mut Noise) -> Vec<i32> {
    let mut sees = vec![0; m * m];
    for row in 0..m {
        if row > 0 && noise.below(5) > 0 {
            let parent = noise.below(row);
            for column in 0..m {
                sees[row * m + column] = sees[parent * m + column];
            }
        }
        sees[row * m + row] = 1;
    }
    sees
}
