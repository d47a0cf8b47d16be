//! Safetensors files of a Hugging Face folder, memory-mapped.

use super::json::read_json;
use crate::ModelError;
use burn::tensor::{AllocationProperty, Bytes as TensorBytes};
use bytes::Bytes;
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::TensorInfo};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Component, Path, PathBuf},
};

/// The tensors of a checkpoint, in one file or several.
pub(super) struct Checkpoint {
    folder: PathBuf,
    /// The safetensors files, mapped or part of the program.
    files: Vec<Bytes>,
    entries: BTreeMap<String, Entry>,
    used: BTreeSet<String>,
    /// Tensors are made up from this seed instead of read.
    seed: Option<u64>,
}

struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: std::ops::Range<usize>,
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: HashMap<String, String>,
}

impl Checkpoint {
    fn empty(folder: &Path) -> Self {
        let (files, entries, used) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
        Self { folder: folder.to_owned(), files, entries, used, seed: None }
    }

    /// Maps `model.safetensors`, or the shards that `model.safetensors.index.json` lists.
    pub(super) fn open(folder: &Path) -> Result<Self, ModelError> {
        let mut checkpoint = Self::empty(folder);
        let (single, index) = (folder.join("model.safetensors"), folder.join("model.safetensors.index.json"));
        if single.exists() || !index.exists() {
            checkpoint.map(&single)?;
            return Ok(checkpoint);
        }
        let map = read_json::<Index>(&index)?.weight_map;
        let shards: BTreeSet<&String> = map.values().collect();
        for shard in shards {
            if !matches!(Path::new(shard).components().collect::<Vec<_>>()[..], [Component::Normal(_)]) {
                let message = format!("shard `{shard}` is not a file of this folder");
                return Err(ModelError::Checkpoint { path: index, message });
            }
            checkpoint.map(&folder.join(shard))?;
        }
        match map.keys().find(|name| !checkpoint.entries.contains_key(*name)) {
            Some(name) => Err(ModelError::MissingTensor { path: index, name: name.clone() }),
            None => Ok(checkpoint),
        }
    }

    /// A file that is part of the program.
    pub(super) fn embedded(name: &Path, bytes: &'static [u8]) -> Result<Self, ModelError> {
        let mut checkpoint = Self::empty(name);
        checkpoint.add(name, Bytes::from_static(bytes))?;
        Ok(checkpoint)
    }

    /// A checkpoint that has every tensor anyone asks for, with random values.
    pub(super) fn generated(name: &Path, seed: u64) -> Self {
        Self { seed: Some(seed), ..Self::empty(name) }
    }

    fn map(&mut self, path: &Path) -> Result<(), ModelError> {
        let io = |source| ModelError::Io { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            let message = "the file is empty; was the download broken off?".into();
            return Err(ModelError::Checkpoint { path: path.to_owned(), message });
        }
        // SAFETY: the map is read only. Should another process cut the file short while it is mapped,
        // reading it would fault; every program that maps its weights accepts that.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        self.add(path, Bytes::from_owner(map))
    }

    fn add(&mut self, path: &Path, file: Bytes) -> Result<(), ModelError> {
        let fail = |message: String| ModelError::Checkpoint { path: path.to_owned(), message };
        // This also compares the lengths in the header with that of the file.
        let (header, metadata) = SafeTensors::read_metadata(&file)
            .map_err(|error| fail(format!("{error}; the file is truncated or damaged, download it again")))?;
        let data = header + 8;
        for (name, TensorInfo { dtype, shape, data_offsets: (start, end) }) in metadata.tensors() {
            let bytes = data + start..data + end;
            let entry = Entry { file: self.files.len(), dtype: *dtype, shape: shape.clone(), bytes };
            if self.entries.insert(name.clone(), entry).is_some() {
                return Err(fail(format!("tensor `{name}` is in two shards")));
            }
        }
        self.files.push(file);
        Ok(())
    }

    /// The tensor's bytes where they are, if it is there, has this shape, is stored in this type and lies
    /// where a value of the type may lie; else it must be read.
    pub(super) fn mapped<T: Stored>(&mut self, name: &str, shape: &[usize]) -> Option<TensorBytes> {
        let entry = self.entries.get(name)?;
        let bytes = self.files[entry.file].slice(entry.bytes.clone());
        let aligned = bytes.as_ptr().cast::<T>().is_aligned();
        if entry.shape != shape || entry.dtype != T::DTYPE || !aligned || cfg!(target_endian = "big") {
            return None;
        }
        self.used.insert(name.into());
        Some(TensorBytes::from_shared(bytes, AllocationProperty::File))
    }

    /// Appends the tensor's values, converted, to `out`.
    pub(super) fn read<T: Stored>(
        &mut self,
        name: &str,
        shape: &[usize],
        out: &mut Vec<T>,
    ) -> Result<(), ModelError> {
        if let Some(seed) = self.seed {
            generate(seed, name, shape, out);
            return Ok(());
        }
        let path = || self.folder.clone();
        let Some(entry) = self.entries.get(name) else {
            return Err(ModelError::MissingTensor { path: path(), name: name.into() });
        };
        if entry.shape != shape {
            let (found, expected) = (entry.shape.clone(), shape.to_vec());
            return Err(ModelError::TensorShape { path: path(), name: name.into(), found, expected });
        }
        let bytes = &self.files[entry.file][entry.bytes.clone()];
        match entry.dtype {
            Dtype::F32 => T::extend(out, bytes, f32::from_le_bytes),
            Dtype::F16 => {
                // What is infinite in f16 already was not beyond it: mapped or copied, it stays.
                T::extend(out, bytes, |b| f16::from_le_bytes(b).to_f32()).or(Ok(()))
            }
            Dtype::BF16 => T::extend(out, bytes, |b| bf16::from_le_bytes(b).to_f32()),
            other => {
                let found = format!("{other:?}");
                return Err(ModelError::TensorDtype { path: path(), name: name.into(), found });
            }
        }
        .map_err(|Overflow| ModelError::F16Range { path: path(), name: name.into() })?;
        self.used.insert(name.into());
        Ok(())
    }

    /// Something is wrong with what the tensors hold.
    pub(super) fn error(&self, message: String) -> ModelError {
        ModelError::Checkpoint { path: self.folder.clone(), message }
    }

    /// Refuses tensors nobody asked for, but for buffers that old exporters wrote.
    pub(super) fn finish(self, tied_head: bool) -> Result<(), ModelError> {
        let spare =
            |name: &String| name.ends_with("rotary_emb.inv_freq") || (tied_head && name == "lm_head.weight");
        let names: Vec<String> =
            self.entries.into_keys().filter(|name| !self.used.contains(name) && !spare(name)).collect();
        if names.is_empty() {
            Ok(())
        } else {
            Err(ModelError::UnexpectedTensors { path: self.folder, names })
        }
    }
}

/// Appends random values that f16 holds exactly: of matrices uniform with a deviation of 0.02, of
/// vectors 1, as norms are when training begins.
fn generate<T: Stored>(seed: u64, name: &str, shape: &[usize], out: &mut Vec<T>) {
    let count = shape.iter().product();
    if shape.len() == 1 {
        out.extend(std::iter::repeat_n(1.0, count).map(T::from_f32));
        return;
    }
    // FNV-1a of the name and SplitMix64 of the index: any tensor can be made without the others.
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let mut state = name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, fold);
    out.extend((0..count).map(|_| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let step = ((z >> 32) % 2269) as f32 - 1134.0;
        T::from_f32(step / 32768.0)
    }));
}

/// A value that does not fit into f16.
pub(super) struct Overflow;

/// The types weights are held in.
pub(super) trait Stored: Sized {
    /// The type in a checkpoint whose bytes are those in memory.
    const DTYPE: Dtype;

    fn from_f32(value: f32) -> Self;

    fn extend<const N: usize>(
        out: &mut Vec<Self>,
        bytes: &[u8],
        value: impl Fn([u8; N]) -> f32,
    ) -> Result<(), Overflow>;
}

impl Stored for f32 {
    const DTYPE: Dtype = Dtype::F32;

    fn from_f32(value: f32) -> f32 {
        value
    }

    fn extend<const N: usize>(
        out: &mut Vec<f32>,
        bytes: &[u8],
        value: impl Fn([u8; N]) -> f32,
    ) -> Result<(), Overflow> {
        out.extend(bytes.as_chunks::<N>().0.iter().map(|chunk| value(*chunk)));
        Ok(())
    }
}

impl Stored for f16 {
    const DTYPE: Dtype = Dtype::F16;

    fn from_f32(value: f32) -> f16 {
        f16::from_f32(value)
    }

    fn extend<const N: usize>(
        out: &mut Vec<f16>,
        bytes: &[u8],
        value: impl Fn([u8; N]) -> f32,
    ) -> Result<(), Overflow> {
        let before = out.len();
        out.extend(bytes.as_chunks::<N>().0.iter().map(|chunk| f16::from_f32(value(*chunk))));
        if out[before..].iter().any(|x| x.is_infinite()) { Err(Overflow) } else { Ok(()) }
    }
}
