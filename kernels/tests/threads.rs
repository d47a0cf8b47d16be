//! The number of threads changes no bit.
//!
//! A file of its own: the threads are one team for the whole program, and another test that has them would
//! leave none.
#![cfg(feature = "cpu")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use burn::tensor::{DType, Tensor, TensorData};
use common::{
    Form, Matrix, Values, bits,
    operation::{Attention, Embed, Gated, Linear, Norm, Operation, Rope, cpu},
};
use drafthorse_kernels::{AttentionShape, VerifyRows, set_threads, threads, verify};

/// Shapes of the size that is shared among threads, with counts that three do not divide.
fn large() -> Vec<Box<dyn Operation>> {
    let small = [Values::Small; 2];
    let shape = AttentionShape { heads: 6, kv_heads: 2, head_dim: 20, start: 190, window: Some(150) };
    let long = AttentionShape { start: 3000, window: None, ..shape };
    let mut all: Vec<Box<dyn Operation>> = vec![
        Box::new(Linear::new([33, 20_000, 1], small, Form::F32, [false; 2], 4)),
        Box::new(Norm::new([33, 20_000], small, 1e-5, 5)),
        Box::new(Embed::new([33, 2000, 7], Values::Small, Form::Parts, 6)),
        Box::new(Rope::new(33, AttentionShape { heads: 50, ..shape }, Values::Small, true, DType::F16, 7)),
        Box::new(Attention::new(33, shape, small, DType::F32, 8)),
        Box::new(Attention::new(1, long, small, DType::F16, 9)),
        Box::new(Attention::new(6, long, small, DType::F32, 10)),
    ];
    for form in [Form::F32, Form::F16, Form::Q8, Form::Q4, Form::Parts] {
        all.push(Box::new(Linear::new([1, 211, 3001], small, form, [true, false], 1)));
        all.push(Box::new(Linear::new([5, 211, 1001], small, form, [false, true], 2)));
        all.push(Box::new(Linear::new([45, 130, 257], small, form, [true, true], 3)));
        all.push(Box::new(Gated::new([7, 130, 401], small, form, 4)));
    }
    all
}

fn statistics() -> Vec<String> {
    let (m, vocab) = (7, 3001);
    let logits = Matrix::new(Values::Small, 1, [m, vocab]);
    let draft = vec![1.0 / vocab as f32; m * vocab];
    let draft = Tensor::from_data(TensorData::new(draft, [m, vocab]), &cpu());
    let rows = VerifyRows { drafted: &[7; 7], noise: &[0.3; 7], draft: Some(&draft), temperature: 0.5 };
    verify(logits.on(&cpu()), &rows).unwrap().iter().map(|row| format!("{row:?}")).collect()
}

#[test]
fn threads_change_no_bit() {
    for mut operation in large() {
        let m = operation.input().rows();
        let [one, two, three, more] = [1, 2, 3, 8].map(|count| {
            set_threads(count);
            assert_eq!(threads(), count);
            bits(&operation.rows(0..m))
        });
        assert!(one == two && one == three && one == more, "the number of threads changed the result");
    }
    let [one, three] = [1, 3].map(|count| {
        set_threads(count);
        statistics()
    });
    assert_eq!(one, three);
    #[cfg(target_os = "linux")]
    assert_eq!(helpers(), 7, "others helped");
    set_threads(0);
    assert!(threads() > 0);
}

/// Threads of the program that are there to help.
#[cfg(target_os = "linux")]
fn helpers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("drafthorse-kern")).count()
}
