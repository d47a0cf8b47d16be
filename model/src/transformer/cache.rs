use super::{config::ModelConfig, weights::CacheType};
use crate::KvCache;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use drafthorse_kernels::append;

/// Positions for which memory is taken at first.
const INITIAL: usize = 512;

/// Keys and values of every layer, in memory that is allocated ahead and written in place.
///
/// Rolling back is shortening a number: rows beyond the length are overwritten by the next tokens and
/// never seen before that. Where the sequence outgrows the memory, it doubles, up to the context.
pub struct TransformerCache {
    /// Keys and values, `[capacity, kv_heads * head_dim]` each; `None` while they are written.
    layers: Vec<Option<(Tensor<2>, Tensor<2>)>>,
    dtype: DType,
    len: usize,
    /// Rows of the tensors where the last positions lie, if not in their places: a path of a tree. They are moved before
    /// the next tokens are read, on the device's own stream.
    scattered: Vec<usize>,
    capacity: usize,
    /// A forward began and did not end: the tensors cannot be trusted.
    broken: bool,
}

impl std::fmt::Debug for TransformerCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TransformerCache {{ {} of {} positions }}", self.len, self.capacity)
    }
}

impl TransformerCache {
    pub(super) fn new(cache_type: CacheType) -> Self {
        let dtype = match cache_type {
            CacheType::F32 => DType::F32,
            CacheType::F16 => DType::F16,
        };
        Self { layers: Vec::new(), dtype, len: 0, scattered: Vec::new(), capacity: 0, broken: false }
    }

    /// Forgets everything.
    fn reset(&mut self) {
        self.layers.clear();
        self.scattered.clear();
        (self.len, self.capacity, self.broken) = (0, 0, false);
    }

    /// Keys and values of a layer, to be written; they come back by [`TransformerCache::put`].
    pub(super) fn take(&mut self, layer: usize) -> (Tensor<2>, Tensor<2>) {
        self.layers[layer].take().expect("a layer is written by one operation at a time")
    }

    pub(super) fn put(&mut self, layer: usize, cache: (Tensor<2>, Tensor<2>)) {
        self.layers[layer] = Some(cache);
    }

    /// Makes room for `more` tokens after those held and opens the cache for writing.
    pub(super) fn begin(&mut self, more: usize, config: &ModelConfig, device: &Device) {
        if self.broken {
            self.reset();
        }
        self.broken = true;
        self.gather(device);
        let needed = self.len + more;
        if needed <= self.capacity {
            return;
        }
        self.capacity = needed.max(2 * self.capacity).max(INITIAL).min(config.context_len.max(needed));
        let shape = [self.capacity, config.kv_heads * config.head_dim];
        let grow = |old: Option<Tensor<2>>| {
            let mut new = Tensor::zeros(shape, (device, self.dtype));
            if let Some(old) = old {
                append(&mut new, old, 0);
            }
            new
        };
        let mut old = std::mem::take(&mut self.layers).into_iter();
        self.layers = (0..config.layers)
            .map(|_| {
                let (keys, values) = old.next().flatten().unzip();
                Some((grow(keys), grow(values)))
            })
            .collect();
    }

    /// Moves positions that are scattered to their places.
    fn gather(&mut self, device: &Device) {
        let scattered = std::mem::take(&mut self.scattered);
        let settled = self.len - scattered.len();
        let moved = (settled..).zip(&scattered).take_while(|(place, row)| place == *row).count();
        let (to, from) = (settled + moved, &scattered[moved..]);
        if from.is_empty() {
            return;
        }
        let rows: Vec<i32> = from.iter().map(|row| row.cast_signed() as i32).collect();
        let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [from.len()]), device);
        for (keys, values) in self.layers.iter_mut().flatten() {
            for tensor in [keys, values] {
                let found = tensor.clone().select(0, rows.clone());
                append(tensor, found, to);
            }
        }
    }

    /// Where the next token goes, also while the cache is open.
    pub(super) fn position(&self) -> usize {
        self.len
    }

    /// Counts `more` tokens as read.
    pub(super) fn commit(&mut self, more: usize) {
        self.len += more;
        self.broken = false;
    }
}

impl KvCache for TransformerCache {
    fn len(&self) -> usize {
        if self.broken { 0 } else { self.len }
    }

    fn truncate(&mut self, len: usize) {
        if self.broken {
            self.reset();
        }
        let settled = self.len - self.scattered.len();
        self.scattered.truncate(len.saturating_sub(settled));
        self.len = self.len.min(len);
    }

    fn keep_path(&mut self, start: usize, path: &[usize]) {
        if self.broken || start > self.len {
            return self.truncate(start);
        }
        let settled = self.len - self.scattered.len();
        let row = |position: usize| match position.checked_sub(settled) {
            None => position,
            Some(index) => self.scattered[index],
        };
        let held = path.iter().map(|index| start + index).take_while(|position| *position < self.len);
        let kept: Vec<usize> = (settled.min(start)..start).chain(held).map(row).collect();
        self.len = settled.min(start) + kept.len();
        self.scattered = kept;
    }
}
