//! Operations with their inputs on the host, so that any rows of them can be computed alone.

use super::{Form, Matrix, Values, host, indices};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use drafthorse_kernels::{
    AttentionShape, HeadNorms, Weight, attention, embed, gated_linear, linear, linear_add, portable,
    rms_norm, rope_and_append,
};
use std::ops::Range;

/// One call of an operation on the CPU.
pub(crate) trait Operation {
    /// The input whose rows are those of the result.
    fn input(&mut self) -> &mut Matrix;
    /// The given rows of the result.
    fn rows(&self, rows: Range<usize>) -> Vec<f32>;
    fn portable(&self) -> Vec<f32>;
    /// How far each value may be off; follows from the sums of absolute values that rounding acts on.
    fn tolerance(&self) -> Vec<f32>;
}

pub(crate) fn cpu() -> Device {
    Device::flex()
}

pub(crate) struct Linear {
    pub(crate) x: Matrix,
    pub(crate) weight: Weight,
    /// The values the weight stands for, and their absolute values.
    dense: [Weight; 2],
    pub(crate) bias: Option<Matrix>,
    pub(crate) residual: Option<Matrix>,
}

impl Linear {
    pub(crate) fn new(
        [m, k, n]: [usize; 3],
        [x, w]: [Values; 2],
        form: Form,
        [bias, residual]: [bool; 2],
        seed: u64,
    ) -> Self {
        let weight = Matrix::new(w, seed ^ 1, [n, k]);
        Self {
            x: Matrix::new(x, seed, [m, k]),
            weight: form.weight(&weight, &cpu()),
            dense: form.reference(&weight),
            bias: bias.then(|| Matrix::new(x, seed ^ 2, [1, n])),
            residual: residual.then(|| Matrix::new(x, seed ^ 3, [m, n])),
        }
    }

    fn sum(product: Tensor<2>, bias: Option<&Matrix>, residual: Option<&Matrix>) -> Vec<f32> {
        let product = match bias {
            Some(bias) => product + bias.row(&cpu()).unsqueeze(),
            None => product,
        };
        host(match residual {
            Some(residual) => product + residual.on(&cpu()),
            None => product,
        })
    }
}

impl Operation for Linear {
    fn input(&mut self) -> &mut Matrix {
        &mut self.x
    }

    fn rows(&self, rows: Range<usize>) -> Vec<f32> {
        let bias = self.bias.as_ref().map(|bias| bias.row(&cpu()));
        let x = self.x.part(rows.clone()).on(&cpu());
        host(match &self.residual {
            Some(residual) => linear_add(x, &self.weight, bias.as_ref(), residual.part(rows).on(&cpu())),
            None => linear(x, &self.weight, bias.as_ref()),
        })
    }

    fn portable(&self) -> Vec<f32> {
        let product = portable::linear(self.x.on(&cpu()), &self.dense[0], None);
        Self::sum(product, self.bias.as_ref(), self.residual.as_ref())
    }

    fn tolerance(&self) -> Vec<f32> {
        let product = portable::linear(self.x.abs().on(&cpu()), &self.dense[1], None);
        let [bias, residual] = [&self.bias, &self.residual].map(|m| m.as_ref().map(Matrix::abs));
        let sizes = Self::sum(product, bias.as_ref(), residual.as_ref());
        sizes.iter().map(|size| size * 1e-5 + 1e-37).collect()
    }
}

pub(crate) struct Gated {
    x: Matrix,
    weight: Weight,
    dense: [Weight; 2],
}

impl Gated {
    pub(crate) fn new([m, k, f]: [usize; 3], [x, w]: [Values; 2], form: Form, seed: u64) -> Self {
        let weight = Matrix::new(w, seed ^ 1, [2 * f, k]);
        let (ours, dense) = (form.weight(&weight, &cpu()), form.reference(&weight));
        Self { x: Matrix::new(x, seed, [m, k]), weight: ours, dense }
    }
}

impl Operation for Gated {
    fn input(&mut self) -> &mut Matrix {
        &mut self.x
    }

    fn rows(&self, rows: Range<usize>) -> Vec<f32> {
        host(gated_linear(self.x.part(rows).on(&cpu()), &self.weight))
    }

    fn portable(&self) -> Vec<f32> {
        host(portable::gated_linear(self.x.on(&cpu()), &self.dense[0]))
    }

    /// What the rounding of gate and up makes of their product.
    fn tolerance(&self) -> Vec<f32> {
        let sizes = portable::linear(self.x.abs().on(&cpu()), &self.dense[1], None).add_scalar(1.0);
        let ([m, n], half) =
            (sizes.dims(), |range: Range<usize>| sizes.clone().slice([0..self.x.rows(), range]));
        assert_eq!(m, self.x.rows());
        host((half(0..n / 2) * half(n / 2..n)).mul_scalar(2e-5))
    }
}

pub(crate) struct Embed {
    /// Indices of rows.
    ids: Matrix,
    weight: Weight,
    dense: Weight,
}

impl Embed {
    pub(crate) fn new([m, k, n]: [usize; 3], values: Values, form: Form, seed: u64) -> Self {
        let weight = Matrix::new(values, seed ^ 1, [n, k]);
        let ids = Values::Small.make(seed, m).iter().map(|x| (x.abs() * n as f32).floor()).collect();
        let [dense, _] = form.reference(&weight);
        Self { ids: Matrix { values: ids, columns: 1 }, weight: form.weight(&weight, &cpu()), dense }
    }

    fn ids(&self, rows: Range<usize>) -> Tensor<1, Int> {
        indices(&self.ids.values[rows].iter().map(|&id| id as usize).collect::<Vec<_>>(), &cpu())
    }
}

impl Operation for Embed {
    fn input(&mut self) -> &mut Matrix {
        &mut self.ids
    }

    fn rows(&self, rows: Range<usize>) -> Vec<f32> {
        host(embed(&self.weight, self.ids(rows)))
    }

    fn portable(&self) -> Vec<f32> {
        host(portable::embed(&self.dense, self.ids(0..self.ids.rows())))
    }

    /// None: nothing is computed.
    fn tolerance(&self) -> Vec<f32> {
        vec![0.0; self.ids.rows() * self.weight.dims()[1]]
    }
}

pub(crate) struct Norm {
    x: Matrix,
    weight: Matrix,
    epsilon: f64,
}

impl Norm {
    pub(crate) fn new(shape: [usize; 2], [x, w]: [Values; 2], epsilon: f64, seed: u64) -> Self {
        Self { x: Matrix::new(x, seed, shape), weight: Matrix::new(w, seed ^ 1, [1, shape[1]]), epsilon }
    }
}

impl Operation for Norm {
    fn input(&mut self) -> &mut Matrix {
        &mut self.x
    }

    fn rows(&self, rows: Range<usize>) -> Vec<f32> {
        host(rms_norm(self.x.part(rows).on(&cpu()), &self.weight.row(&cpu()), self.epsilon))
    }

    fn portable(&self) -> Vec<f32> {
        host(portable::rms_norm(self.x.on(&cpu()), &self.weight.row(&cpu()), self.epsilon))
    }

    fn tolerance(&self) -> Vec<f32> {
        self.portable().iter().map(|value| value.abs() * 1e-5 + 1e-30).collect()
    }
}

/// Rotation and appending; a row of the result is the rotated query, and what is written into the caches.
pub(crate) struct Rope {
    pub(crate) qkv: Matrix,
    pub(crate) angles: Matrix,
    pub(crate) norms: Option<[Matrix; 2]>,
    pub(crate) shape: AttentionShape,
    pub(crate) dtype: DType,
}

impl Rope {
    pub(crate) fn new(
        m: usize,
        shape: AttentionShape,
        values: Values,
        normed: bool,
        dtype: DType,
        seed: u64,
    ) -> Self {
        let (d, width) = (shape.head_dim, shape.heads + 2 * shape.kv_heads);
        let mut angles = Matrix::new(Values::Large, seed ^ 1, [m, d]);
        for row in angles.values.chunks_exact_mut(d) {
            for i in 0..d / 2 {
                (row[i], row[i + d / 2]) = (row[i].cos(), row[i].sin());
            }
        }
        let norms = normed.then(|| [2, 3].map(|s| Matrix::new(Values::Small, seed ^ s, [1, d])));
        Self { qkv: Matrix::new(values, seed, [m, width * d]), angles, norms, shape, dtype }
    }

    fn run(&self, rows: Range<usize>, ours: bool) -> Vec<f32> {
        let shape = AttentionShape { start: self.shape.start + rows.start, ..self.shape };
        let width = shape.kv_heads * shape.head_dim;
        let end = shape.start + rows.len();
        let cache = || Matrix { values: vec![f32::NAN; (end + 2) * width], columns: width };
        let cache = (cache().typed(&cpu(), self.dtype), cache().typed(&cpu(), self.dtype));
        let [query, key] = [0, 1].map(|i| self.norms.as_ref().map(|norms| norms[i].row(&cpu())));
        let norms = query.as_ref().zip(key.as_ref());
        let norms = norms.map(|(query, key)| HeadNorms { query, key, epsilon: 1e-5 });
        let operation = if ours { rope_and_append } else { portable::rope_and_append };
        let (qkv, angles) = (self.qkv.part(rows.clone()).on(&cpu()), self.angles.part(rows).on(&cpu()));
        let (query, (keys, values)) = operation(qkv, &angles, norms, cache, shape);
        let written = |cache: Tensor<2>| cache.slice([shape.start..end, 0..width]).cast(DType::F32);
        host(Tensor::cat(vec![query, written(keys), written(values)], 1))
    }
}

impl Operation for Rope {
    fn input(&mut self) -> &mut Matrix {
        &mut self.qkv
    }

    fn rows(&self, rows: Range<usize>) -> Vec<f32> {
        self.run(rows, true)
    }

    fn portable(&self) -> Vec<f32> {
        self.run(0..self.qkv.rows(), false)
    }

    /// In an f16 cache a value may be rounded the other way.
    fn tolerance(&self) -> Vec<f32> {
        let largest = if self.norms.is_some() { 10.0 } else { self.qkv.largest() };
        vec![largest * if self.dtype == DType::F16 { 1e-3 } else { 2e-6 }; self.qkv.values.len()]
    }
}

pub(crate) struct Attention {
    pub(crate) query: Matrix,
    pub(crate) keys: Matrix,
    pub(crate) values: Matrix,
    pub(crate) tree: Option<Vec<i32>>,
    pub(crate) shape: AttentionShape,
    pub(crate) dtype: DType,
}

impl Attention {
    /// The cache has three rows more than are filled; nobody may look at what is in them.
    pub(crate) fn new(m: usize, shape: AttentionShape, [q, v]: [Values; 2], dtype: DType, seed: u64) -> Self {
        let AttentionShape { heads, kv_heads, head_dim, start, .. } = shape;
        let cache = |values, seed| {
            let mut cache = Matrix::new(values, seed, [start + m, kv_heads * head_dim]);
            cache.values.extend(vec![f32::NAN; 3 * cache.columns]);
            cache
        };
        let query = Matrix::new(q, seed, [m, heads * head_dim]);
        Self { query, keys: cache(q, seed ^ 1), values: cache(v, seed ^ 2), tree: None, shape, dtype }
    }

    /// All rows, of ours or of the portable operation.
    pub(crate) fn run(&self, rows: Range<usize>, ours: bool) -> Vec<f32> {
        let m = rows.len();
        let shape = AttentionShape { start: self.shape.start + rows.start, ..self.shape };
        let operation = if ours { attention } else { portable::attention };
        let [keys, values] = [&self.keys, &self.values].map(|cache| cache.typed(&cpu(), self.dtype));
        let tree = self.tree.as_ref().map(|tree| {
            assert_eq!(tree.len(), m * m, "a tree comes as a whole");
            Tensor::<2, Int>::from_data(TensorData::new(tree.clone(), [m, m]), &cpu())
        });
        host(operation(self.query.part(rows).on(&cpu()), &keys, &values, tree.as_ref(), shape))
    }
}

impl Operation for Attention {
    fn input(&mut self) -> &mut Matrix {
        &mut self.query
    }

    fn rows(&self, rows: Range<usize>) -> Vec<f32> {
        self.run(rows, true)
    }

    fn portable(&self) -> Vec<f32> {
        self.run(0..self.query.rows(), false)
    }

    fn tolerance(&self) -> Vec<f32> {
        vec![self.values.largest() * 2e-5; self.query.values.len()]
    }
}
