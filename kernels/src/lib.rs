//! Burn operations for decoding with few rows.
//!
//! Every operation takes and returns ordinary Burn tensors and runs on every device. On the CPU device and
//! on GPUs they are our own code; on any other device, and as the reference our own code is tested against,
//! they are composed of stock Burn operations ([`portable`]).
//!
//! **Row independence.** On the CPU, row `i` of a result depends on row `i` of the input alone, bit for
//! bit: every sum runs in an order that depends neither on the number of rows nor on the number of
//! threads. A verify pass over k + 1 tokens therefore gives exactly the logits that k + 1 decode steps
//! give, and greedy speculative text equals plain greedy text.

mod attention;
#[cfg(any(feature = "cpu", feature = "gpu"))]
mod backend;
#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "gpu")]
mod gpu;
mod linear;
pub mod portable;
mod verify;
mod weight;

pub use attention::{AttentionShape, HeadNorms, append, attention, rope_and_append};
#[cfg(feature = "cpu")]
pub use cpu::{instruction_set, set_threads, threads};
#[cfg(feature = "gpu")]
#[doc(hidden)]
pub use gpu::with_planes;
pub use linear::{embed, gated_linear, linear, linear_add, rms_norm};
pub use verify::{RowStatistics, VerifyRows, argmax_of, statistics, verify};
pub use weight::{BLOCK, BlockFormat, HostBlocks, Weight};

use burn::tensor::Device;

/// Whether our own code runs on this device.
fn is_ours(device: &Device) -> bool {
    match device.as_dispatch() {
        #[cfg(feature = "cpu")]
        burn::backend::DispatchDevice::Flex(_) => true,
        #[cfg(feature = "gpu")]
        burn::backend::DispatchDevice::Cube(_) => true,
        #[allow(unreachable_patterns, reason = "depends on the backends built in")]
        _ => false,
    }
}

/// Whether this is the device of the processor.
fn is_cpu(device: &Device) -> bool {
    match device.as_dispatch() {
        #[cfg(feature = "cpu")]
        burn::backend::DispatchDevice::Flex(_) => true,
        #[allow(unreachable_patterns, reason = "depends on the backends built in")]
        _ => false,
    }
}

/// The largest tensor the device can hold, in bytes: small GPUs hold no more than 128 MiB in one.
fn largest_buffer(device: &Device) -> usize {
    match device.as_dispatch() {
        #[cfg(feature = "gpu")]
        burn::backend::DispatchDevice::Cube(device) => gpu::largest_buffer(device),
        #[allow(unreachable_patterns, reason = "depends on the backends built in")]
        _ => usize::MAX,
    }
}
