//! Which device to compute on.

use crate::ModelError;
use burn::tensor::{DType, Device, StreamId};
use std::{fmt, str::FromStr, sync::Mutex};

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
        match text {
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
        write!(f, "{} ({})", self.choice, self.name)
    }
}

impl LoadedDevice {
    pub(crate) fn burn(&self) -> &Device {
        &self.device
    }

    pub(crate) fn supports_f16(&self) -> bool {
        self.device.supports_dtype(DType::F16)
    }

    /// Runs work of this device. On a GPU all of it goes through one stream, whichever thread asks, so
    /// that weights loaded on one thread cost nothing extra on another; on the CPU it runs inside the
    /// thread pool, where sharing work among threads is cheap.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        if let Some(stream) = self.stream {
            return stream.executes(work);
        }
        let mut result = None;
        rayon::scope(|_| result = Some(work()));
        result.expect("the scope ran the work")
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

fn automatic() -> DeviceChoice {
    let found = gpu::adapters().into_iter().find(|adapter| adapter.kind.is_gpu());
    found.map_or(DeviceChoice::Cpu, |adapter| adapter.choice)
}

fn error(device: &str, message: &str) -> ModelError {
    ModelError::Device { device: device.to_owned(), message: message.to_owned() }
}

#[cfg(feature = "cpu")]
#[allow(clippy::unnecessary_wraps)]
fn cpu() -> Result<LoadedDevice, ModelError> {
    let name = format!("CPU, {}", drafthorse_kernels::instruction_set());
    Ok(LoadedDevice { device: Device::flex(), stream: None, choice: DeviceChoice::Cpu, name })
}

#[cfg(not(feature = "cpu"))]
fn cpu() -> Result<LoadedDevice, ModelError> {
    Err(error("cpu", "is not in this build; build with the feature `cpu`"))
}

#[cfg(not(any(feature = "vulkan", feature = "metal", feature = "webgpu")))]
mod gpu {
    use super::{Adapter, DeviceChoice, LoadedDevice, ModelError, error};

    pub(super) fn adapters() -> Vec<Adapter> {
        Vec::new()
    }

    pub(super) fn open(choice: DeviceChoice) -> Result<LoadedDevice, ModelError> {
        Err(error(&choice.to_string(), "is not in this build; build with the feature of that name"))
    }
}

#[cfg(any(feature = "vulkan", feature = "metal", feature = "webgpu"))]
mod gpu {
    use super::{Adapter, AdapterKind, DeviceChoice, LoadedDevice, ModelError, error};
    use burn::tensor::{
        Device, DeviceKind, StreamId,
        wgpu::{WgpuBackend, wgpu},
    };

    /// The interfaces of this build: the choice it stands for, its name in wgpu, its name in Burn.
    fn interfaces() -> Vec<(DeviceChoice, wgpu::Backends, WgpuBackend)> {
        let mut found = Vec::new();
        if cfg!(feature = "vulkan") {
            found.push((DeviceChoice::Vulkan(None), wgpu::Backends::VULKAN, WgpuBackend::Vulkan));
        }
        if cfg!(feature = "metal") {
            found.push((DeviceChoice::Metal, wgpu::Backends::METAL, WgpuBackend::Metal));
        }
        if cfg!(feature = "webgpu") {
            found.push((DeviceChoice::WebGpu, wgpu::Backends::all(), WgpuBackend::Auto));
        }
        found
    }

    pub(super) fn adapters() -> Vec<Adapter> {
        let mut found: Vec<Adapter> = interfaces()
            .into_iter()
            .flat_map(|(choice, backends, _)| {
                let list = list(backends).into_iter().enumerate();
                list.map(move |(number, info)| Adapter {
                    choice: match choice {
                        DeviceChoice::Vulkan(_) => DeviceChoice::Vulkan(Some(number)),
                        other => other,
                    },
                    name: info.name,
                    kind: kind(info.device_type),
                    driver: [info.driver, info.driver_info].join(" ").trim().to_owned(),
                })
            })
            .collect();
        found.sort_by_key(|adapter| match adapter.kind {
            AdapterKind::Discrete => 0,
            AdapterKind::Virtual => 1,
            AdapterKind::Integrated => 2,
            AdapterKind::Other => 3,
            AdapterKind::Software => 4,
        });
        found
    }

    fn list(backends: wgpu::Backends) -> Vec<wgpu::AdapterInfo> {
        let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
        descriptor.backends = backends;
        let instance = wgpu::Instance::new(descriptor);
        let adapters = pollster::block_on(instance.enumerate_adapters(backends));
        adapters.iter().map(wgpu::Adapter::get_info).collect()
    }

    fn kind(kind: wgpu::DeviceType) -> AdapterKind {
        match kind {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Other,
        }
    }

    pub(super) fn open(choice: DeviceChoice) -> Result<LoadedDevice, ModelError> {
        let label = choice.to_string();
        let same = |a: DeviceChoice| std::mem::discriminant(&a) == std::mem::discriminant(&choice);
        let Some((_, backends, api)) = interfaces().into_iter().find(|(interface, ..)| same(*interface))
        else {
            return Err(error(&label, "is not in this build; build with the feature of that name"));
        };
        let (selector, name) = select(choice, &label, &list(backends))?;
        let device = Device::wgpu_options()
            .graphics_api(api)
            .device_kind(selector)
            .init()
            .map_err(|reason| error(&label, &format!("cannot be opened: {reason}")))?;
        Ok(LoadedDevice { device, stream: Some(StreamId::allocate()), choice, name })
    }

    /// The adapter meant by `choice`, as Burn names it: by kind, and by number within its kind.
    fn select(
        choice: DeviceChoice,
        label: &str,
        list: &[wgpu::AdapterInfo],
    ) -> Result<(DeviceKind, String), ModelError> {
        let number = match choice {
            DeviceChoice::Vulkan(Some(number)) => number,
            _ => list.iter().position(|info| kind(info.device_type).is_gpu()).ok_or_else(|| {
                error(label, "has no GPU on this machine; `drafthorse devices` lists what there is")
            })?,
        };
        let Some(info) = list.get(number) else {
            let message =
                format!("does not exist; this machine has {} adapters, see `drafthorse devices`", list.len());
            return Err(error(label, &message));
        };
        let within = list[..number].iter().filter(|other| other.device_type == info.device_type).count();
        let selector = match kind(info.device_type) {
            AdapterKind::Discrete => DeviceKind::DiscreteGpu(within),
            AdapterKind::Integrated => DeviceKind::IntegratedGpu(within),
            AdapterKind::Virtual => DeviceKind::VirtualGpu(within),
            AdapterKind::Software => DeviceKind::Cpu,
            AdapterKind::Other => DeviceKind::DefaultDevice,
        };
        Ok((selector, info.name.clone()))
    }
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
        assert!(message.starts_with("device `vulkan:999`: "), "{message}");
    }
}
