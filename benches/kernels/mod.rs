//! The operations a forward is made of, one by one, on the CPU.

use burn::tensor::{Device, Distribution, Int, Tensor, TensorData};
use criterion::{BenchmarkId, Criterion, Throughput};
use drafthorse_kernels::{
    AttentionShape, BlockFormat, VerifyRows, Weight, attention, linear, rms_norm, rope_and_append, verify,
};
use std::time::Duration;

/// Outputs and inputs of the linear layer.
const SHAPE: [usize; 2] = [2048, 768];
/// Tokens in the cache.
const LENGTH: usize = 1024;
/// Logits in a row.
const VOCABULARY: usize = 32_000;

fn random(shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), device)
}

pub(crate) fn bench(criterion: &mut Criterion) {
    let device = Device::flex();
    linears(criterion, &device);
    attentions(criterion, &device);
    rows(criterion, &device);
}

fn linears(criterion: &mut Criterion, device: &Device) {
    let [n, k] = SHAPE;
    let dense = random(SHAPE, device);
    let values: Vec<f32> = dense.to_data().try_into_vec().expect("random values are f32");
    let half = Tensor::from_data(dense.to_data(), (device, burn::tensor::DType::F16));
    let weights = [
        ("f32", Weight::from(dense)),
        ("f16", Weight::from(half)),
        ("q8", Weight::quantize(&values, k, BlockFormat::Q8, device)),
        ("q4", Weight::quantize(&values, k, BlockFormat::Q4, device)),
    ];
    let mut group = criterion.benchmark_group("linear-2048x768");
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500));
    for (name, weight) in &weights {
        for m in [1, 4, 8, 16, 128] {
            let x = random([m, k], device);
            group.throughput(Throughput::Elements((m * n * k) as u64));
            group.bench_function(BenchmarkId::new(*name, m), |b| b.iter(|| linear(x.clone(), weight, None)));
        }
    }
    group.finish();
}

fn attentions(criterion: &mut Criterion, device: &Device) {
    let mut group = criterion.benchmark_group("attention-12x64-after-1024");
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500));
    for (name, dtype) in [("f32", burn::tensor::DType::F32), ("f16", burn::tensor::DType::F16)] {
        let cache = || random([LENGTH + 128, 768], device).cast(dtype);
        let (keys, values) = (cache(), cache());
        for m in [1, 8, 128] {
            let shape = AttentionShape { heads: 12, kv_heads: 12, head_dim: 64, start: LENGTH, window: None };
            let query = random([m, 768], device);
            group.bench_function(BenchmarkId::new(name, m), |b| {
                b.iter(|| attention(query.clone(), &keys, &values, None::<&Tensor<2, Int>>, shape));
            });
        }
    }
    group.finish();
}

fn rows(criterion: &mut Criterion, device: &Device) {
    let mut group = criterion.benchmark_group("rows");
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500));
    for m in [1, 8] {
        let (x, norm) = (random([m, 768], device), Tensor::<1>::ones([768], device));
        group
            .bench_function(BenchmarkId::new("rms_norm", m), |b| b.iter(|| rms_norm(x.clone(), &norm, 1e-5)));
        let (qkv, angles) = (random([m, 3 * 768], device), random([m, 64], device));
        let mut cache = Some((random([LENGTH + 128, 768], device), random([LENGTH + 128, 768], device)));
        let shape = AttentionShape { heads: 12, kv_heads: 12, head_dim: 64, start: LENGTH, window: None };
        group.bench_function(BenchmarkId::new("rope_and_append", m), |b| {
            b.iter(|| {
                let taken = cache.take().expect("put back after each call");
                let (query, back) = rope_and_append(qkv.clone(), &angles, None, taken, shape);
                cache = Some(back);
                query
            });
        });
        let logits = Tensor::<2>::from_data(
            TensorData::new(
                (0..m * VOCABULARY).map(|i| (i * 7919 % 1000) as f32 / 100.0).collect(),
                [m, VOCABULARY],
            ),
            device,
        );
        let (drafted, noise) = (vec![5; m], vec![0.5; m]);
        group.bench_function(BenchmarkId::new("verify", m), |b| {
            let rows = VerifyRows { drafted: &drafted, noise: &noise, draft: None, temperature: 0.8 };
            b.iter(|| verify(logits.clone(), &rows));
        });
    }
    group.finish();
}
