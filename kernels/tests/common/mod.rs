//! Operations with their inputs on the host, so that any rows of them can be computed on any device.

use burn::tensor::{DType, Device, Tensor, TensorData, f16};
use drafthorse_kernels::{AttentionShape, attention, linear, portable, rms_norm, rope, silu_mul};
use std::ops::Range;

/// What values look like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Zeros,
    /// Between -1 and 1.
    Small,
    /// Between -10000 and 10000.
    Large,
    /// Zeros, ones, and values of very different size next to each other.
    Mixed,
}

/// `count` values that follow from a seed.
pub(crate) fn values(kind: Kind, seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    // The generator SplitMix64.
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (0..count)
        .map(|_| {
            let bits = next();
            let unit = (bits >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            match kind {
                Kind::Zeros => 0.0,
                Kind::Small => unit,
                Kind::Large => unit * 1e4,
                Kind::Mixed => [0.0, 1.0, -1.0, unit, unit * 1e4, unit * 1e-3][bits as usize % 6],
            }
        })
        .collect()
}

/// A matrix on the host.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    pub(crate) data: Vec<f32>,
    pub(crate) columns: usize,
}

impl Matrix {
    pub(crate) fn new(kind: Kind, seed: u64, [rows, columns]: [usize; 2]) -> Self {
        Self { data: values(kind, seed, rows * columns), columns }
    }

    pub(crate) fn rows(&self) -> usize {
        self.data.len() / self.columns
    }

    pub(crate) fn part(&self, rows: Range<usize>) -> Self {
        Self { data: self.data[rows.start * self.columns..rows.end * self.columns].to_vec(), ..*self }
    }

    pub(crate) fn on(&self, device: &Device) -> Tensor<2> {
        let data = TensorData::new(self.data.clone(), [self.rows(), self.columns]);
        Tensor::from_data(data, (device, DType::F32))
    }

    pub(crate) fn vector_on(&self, device: &Device) -> Tensor<1> {
        Tensor::from_data(TensorData::new(self.data.clone(), [self.data.len()]), (device, DType::F32))
    }

    pub(crate) fn largest(&self) -> f32 {
        self.data.iter().fold(0.0, |largest, value| largest.max(value.abs()))
    }
}

pub(crate) fn host(tensor: Tensor<2>) -> Vec<f32> {
    tensor.try_into_vec_as().unwrap()
}

/// One call of an operation whose rows can be computed alone.
pub(crate) trait Operation: Sync {
    /// The input whose rows are those of the result.
    fn input(&mut self) -> &mut Matrix;
    /// The given rows of the result.
    fn rows(&self, rows: Range<usize>, device: &Device) -> Vec<f32>;
    fn portable(&self) -> Vec<f32>;
    /// How far each value may be off; follows from the sums of absolute values that rounding acts on.
    fn tolerance(&self) -> Vec<f32>;
}

#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) x: Matrix,
    pub(crate) weight: Matrix,
    pub(crate) bias: Option<Matrix>,
    pub(crate) half: bool,
}

impl Linear {
    pub(crate) fn new([m, k, n]: [usize; 3], [x, w]: [Kind; 2], bias: bool, half: bool, seed: u64) -> Self {
        let mut weight = Matrix::new(w, seed ^ 1, [n, k]);
        if half {
            weight.data.iter_mut().for_each(|w| *w = f16::from_f32(*w).to_f32());
        }
        let bias = bias.then(|| Matrix::new(x, seed ^ 2, [1, n]));
        Self { x: Matrix::new(x, seed, [m, k]), weight, bias, half }
    }

    /// What each product is made of, without the signs.
    pub(crate) fn absolute(&self) -> Vec<f32> {
        let device = Device::flex();
        let bias = self.bias.as_ref().map(|bias| bias.vector_on(&device).abs());
        host(portable::linear(self.x.on(&device).abs(), &self.weight.on(&device).abs(), bias.as_ref()))
    }
}

impl Operation for Linear {
    fn input(&mut self) -> &mut Matrix {
        &mut self.x
    }

    fn rows(&self, rows: Range<usize>, device: &Device) -> Vec<f32> {
        let weight = self.weight.on(device);
        let weight = if self.half { weight.cast(DType::F16) } else { weight };
        let bias = self.bias.as_ref().map(|bias| bias.vector_on(device));
        host(linear(self.x.part(rows).on(device), &weight, bias.as_ref()))
    }

    /// With the weights as f32, also where they are held as f16: ours widens the weights, the stock
    /// operation would round x.
    fn portable(&self) -> Vec<f32> {
        let device = Device::flex();
        let bias = self.bias.as_ref().map(|bias| bias.vector_on(&device));
        host(portable::linear(self.x.on(&device), &self.weight.on(&device), bias.as_ref()))
    }

    fn tolerance(&self) -> Vec<f32> {
        self.absolute().iter().map(|sum| sum * 1e-5).collect()
    }
}

#[derive(Debug)]
pub(crate) struct Norm {
    pub(crate) x: Matrix,
    pub(crate) weight: Matrix,
    pub(crate) epsilon: f64,
}

impl Norm {
    pub(crate) fn new(shape: [usize; 2], [x, w]: [Kind; 2], epsilon: f64, seed: u64) -> Self {
        Self { x: Matrix::new(x, seed, shape), weight: Matrix::new(w, seed ^ 1, [1, shape[1]]), epsilon }
    }
}

impl Operation for Norm {
    fn input(&mut self) -> &mut Matrix {
        &mut self.x
    }

    fn rows(&self, rows: Range<usize>, device: &Device) -> Vec<f32> {
        host(rms_norm(self.x.part(rows).on(device), &self.weight.vector_on(device), self.epsilon))
    }

    fn portable(&self) -> Vec<f32> {
        let device = Device::flex();
        host(portable::rms_norm(self.x.on(&device), &self.weight.vector_on(&device), self.epsilon))
    }

    fn tolerance(&self) -> Vec<f32> {
        self.portable().iter().map(|value| value.abs() * 1e-5 + 1e-30).collect()
    }
}

#[derive(Debug)]
pub(crate) struct Gate(pub(crate) Matrix);

impl Operation for Gate {
    fn input(&mut self) -> &mut Matrix {
        &mut self.0
    }

    fn rows(&self, rows: Range<usize>, device: &Device) -> Vec<f32> {
        host(silu_mul(self.0.part(rows).on(device)))
    }

    fn portable(&self) -> Vec<f32> {
        host(portable::silu_mul(self.0.on(&Device::flex())))
    }

    fn tolerance(&self) -> Vec<f32> {
        self.portable().iter().map(|value| value.abs() * 1e-5 + 1e-6).collect()
    }
}

#[derive(Debug)]
pub(crate) struct Rope {
    pub(crate) x: Matrix,
    pub(crate) cos: Matrix,
    pub(crate) sin: Matrix,
}

impl Rope {
    pub(crate) fn new([m, heads, half]: [usize; 3], kind: Kind, seed: u64) -> Self {
        let angles = Matrix::new(Kind::Large, seed ^ 1, [m, half]);
        let of = |f: fn(f32) -> f32| Matrix { data: angles.data.iter().copied().map(f).collect(), ..angles };
        Self { x: Matrix::new(kind, seed, [m, 2 * half * heads]), cos: of(f32::cos), sin: of(f32::sin) }
    }
}

impl Operation for Rope {
    fn input(&mut self) -> &mut Matrix {
        &mut self.x
    }

    fn rows(&self, rows: Range<usize>, device: &Device) -> Vec<f32> {
        let (cos, sin) = (self.cos.part(rows.clone()).on(device), self.sin.part(rows.clone()).on(device));
        host(rope(self.x.part(rows).on(device), &cos, &sin))
    }

    fn portable(&self) -> Vec<f32> {
        let device = Device::flex();
        host(portable::rope(self.x.on(&device), &self.cos.on(&device), &self.sin.on(&device)))
    }

    fn tolerance(&self) -> Vec<f32> {
        vec![self.x.largest() * 1e-6; self.x.data.len()]
    }
}

#[derive(Debug)]
pub(crate) struct Attention {
    pub(crate) query: Matrix,
    pub(crate) keys: Matrix,
    pub(crate) values: Matrix,
    pub(crate) shape: AttentionShape,
}

impl Attention {
    /// The cache has three rows more than are filled; nobody may look at what is in them.
    pub(crate) fn new(m: usize, shape: AttentionShape, [q, v]: [Kind; 2], seed: u64) -> Self {
        let AttentionShape { heads, kv_heads, head_dim, start, .. } = shape;
        let cache = |kind, seed| {
            let mut cache = Matrix::new(kind, seed, [start + m, kv_heads * head_dim]);
            cache.data.extend(vec![f32::NAN; 3 * cache.columns]);
            cache
        };
        let query = Matrix::new(q, seed, [m, heads * head_dim]);
        Self { query, keys: cache(q, seed ^ 1), values: cache(v, seed ^ 2), shape }
    }
}

impl Operation for Attention {
    fn input(&mut self) -> &mut Matrix {
        &mut self.query
    }

    fn rows(&self, rows: Range<usize>, device: &Device) -> Vec<f32> {
        let shape = AttentionShape { start: self.shape.start + rows.start, ..self.shape };
        host(attention(
            self.query.part(rows).on(device),
            &self.keys.on(device),
            &self.values.on(device),
            shape,
        ))
    }

    fn portable(&self) -> Vec<f32> {
        let device = Device::flex();
        let (keys, values) = (self.keys.on(&device), self.values.on(&device));
        host(portable::attention(self.query.on(&device), &keys, &values, self.shape))
    }

    fn tolerance(&self) -> Vec<f32> {
        vec![self.values.largest() * 2e-5; self.query.data.len()]
    }
}
