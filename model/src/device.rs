//! Which device to compute on.

#[cfg(any(feature = "vulkan", feature = "metal", feature = "webgpu"))]
mod gpu;
#[cfg(not(any(feature = "vulkan", feature = "metal", feature = "webgpu")))]
#[path = "device/no_gpu.rs"]
mod gpu;

use crate::ModelError;
use burn::tensor::{DType, Device, StreamId};
use std::{
    fmt,
    str::FromStr,
    sync::{Mutex, OnceLock},
};

/// A device as the user names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceChoice {
    /// A real GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A Vulkan adapter by its number in [`adapters`]; without one, the best real GPU.
    Vulkan(Option<usize>),
    /// The GPU of an Apple machine.
    Metal,
    /// The best adapter behind the WebGPU interface.
    WebGpu,
}

impl FromStr for DeviceChoice {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "vulkan" => Ok(Self::Vulkan(None)),
            "metal" => Ok(Self::Metal),
            "webgpu" => Ok(Self::WebGpu),
            other => match other.strip_prefix("vulkan:").map(str::parse) {
                Some(Ok(number)) => Ok(Self::Vulkan(Some(number))),
                _ => Err(error(other, "is unknown; use auto, cpu, vulkan, vulkan:N, metal or webgpu")),
            },
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Vulkan(None) => f.write_str("vulkan"),
            Self::Vulkan(Some(number)) => write!(f, "vulkan:{number}"),
            Self::Metal => f.write_str("metal"),
            Self::WebGpu => f.write_str("webgpu"),
        }
    }
}

/// What an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdapterKind {
    /// A GPU with memory of its own.
    Discrete,
    /// A GPU that shares the machine's memory.
    Integrated,
    /// A GPU passed through to a virtual machine.
    Virtual,
    /// A program that behaves as a GPU: right, and slow.
    Software,
    /// The driver does not say.
    Other,
}

impl AdapterKind {
    /// Whether `auto` takes it.
    pub fn is_gpu(self) -> bool {
        matches!(self, Self::Discrete | Self::Integrated | Self::Virtual)
    }
}

impl fmt::Display for AdapterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discrete => "discrete GPU",
            Self::Integrated => "integrated GPU",
            Self::Virtual => "virtual GPU",
            Self::Software => "software",
            Self::Other => "other",
        })
    }
}

/// An adapter found on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Adapter {
    /// How to ask for it.
    pub choice: DeviceChoice,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: AdapterKind,
    /// Its driver.
    pub driver: String,
}

/// A device that was opened. Clones are the same device.
#[derive(Clone)]
pub struct LoadedDevice {
    device: Device,
    stream: Option<StreamId>,
    /// How it was asked for; never [`DeviceChoice::Auto`].
    pub choice: DeviceChoice,
    /// Its name.
    pub name: String,
}

impl fmt::Debug for LoadedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoadedDevice({self})")
    }
}

impl fmt::Display for LoadedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.choice, self.name)
    }
}

impl LoadedDevice {
    pub(crate) fn burn(&self) -> &Device {
        &self.device
    }

    /// Whether it computes in the memory of the program.
    pub(crate) fn is_cpu(&self) -> bool {
        self.choice == DeviceChoice::Cpu
    }

    pub(crate) fn supports_f16(&self) -> bool {
        self.device.supports_dtype(DType::F16)
    }

    /// Runs work of this device. On a GPU all of it goes through one stream, whichever thread asks, so
    /// that weights loaded on one thread cost nothing extra on another.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        if let Some(stream) = self.stream {
            return stream.executes(work);
        }
        work()
    }
}

/// The devices opened so far: a GPU can be opened only once in a process.
static OPENED: Mutex<Vec<LoadedDevice>> = Mutex::new(Vec::new());

/// Opens a device, or returns it as it was opened before.
///
/// # Errors
///
/// No such device on this machine or in this build. `auto` does not fail where the CPU is built in.
pub fn open_device(choice: DeviceChoice) -> Result<LoadedDevice, ModelError> {
    let choice = if choice == DeviceChoice::Auto { automatic() } else { choice };
    let mut opened = OPENED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(device) = opened.iter().find(|device| device.choice == choice) {
        return Ok(device.clone());
    }
    let device = match choice {
        DeviceChoice::Auto | DeviceChoice::Cpu => cpu()?,
        _ => gpu::open(choice)?,
    };
    opened.push(device.clone());
    Ok(device)
}

/// The adapters of this machine that this build can use, best first; without the CPU.
pub fn adapters() -> Vec<Adapter> {
    gpu::adapters()
}

/// Sets how many processors the CPU device computes with, in the whole program; results do not depend on it.
///
/// # Errors
///
/// None at all, or the CPU is not in this build.
pub fn set_threads(count: usize) -> Result<(), ModelError> {
    if count == 0 {
        return Err(error("cpu", "cannot compute with 0 threads; give at least 1"));
    }
    #[cfg(feature = "cpu")]
    {
        drafthorse_kernels::set_threads(count);
        Ok(())
    }
    #[cfg(not(feature = "cpu"))]
    Err(error("cpu", "is not in this build; build with the feature `cpu`"))
}

/// How many processors the CPU device computes with.
pub fn threads() -> usize {
    #[cfg(feature = "cpu")]
    return drafthorse_kernels::threads();
    #[cfg(not(feature = "cpu"))]
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// What `auto` means on this machine; looking for GPUs takes a while and is done once.
fn automatic() -> DeviceChoice {
    static CHOICE: OnceLock<DeviceChoice> = OnceLock::new();
    *CHOICE.get_or_init(|| {
        let found = gpu::adapters().into_iter().find(|adapter| adapter.kind.is_gpu());
        found.map_or(DeviceChoice::Cpu, |adapter| adapter.choice)
    })
}

fn error(device: &str, message: &str) -> ModelError {
    ModelError::Device { device: device.to_owned(), message: message.to_owned() }
}

#[cfg(feature = "cpu")]
#[allow(clippy::unnecessary_wraps)]
fn cpu() -> Result<LoadedDevice, ModelError> {
    // The allocator of GNU/Linux gives freed memory of this size back to the system, page by page to be had
    // again for every activation, until it has seen a block as large as this come and go.
    drop(std::hint::black_box(Vec::<u8>::with_capacity(31 << 20)));
    let name = format!("CPU, {}", drafthorse_kernels::instruction_set());
    Ok(LoadedDevice { device: Device::flex(), stream: None, choice: DeviceChoice::Cpu, name })
}

#[cfg(not(feature = "cpu"))]
fn cpu() -> Result<LoadedDevice, ModelError> {
    Err(error("cpu", "is not in this build; build with the feature `cpu`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for name in ["auto", "cpu", "vulkan", "vulkan:3", "metal", "webgpu"] {
            assert_eq!(name.parse::<DeviceChoice>().unwrap().to_string(), name);
        }
        for name in ["", "gpu", "vulkan:", "vulkan:x", "cuda"] {
            let message = name.parse::<DeviceChoice>().unwrap_err().to_string();
            assert!(message.contains("use auto, cpu, vulkan"), "{message}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error() {
        let message = open_device(DeviceChoice::Vulkan(Some(999))).unwrap_err().to_string();
        assert!(message.starts_with("device `vulkan:999` "), "{message}");
    }
}
