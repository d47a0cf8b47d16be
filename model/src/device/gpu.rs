//! GPUs through wgpu.

use super::{Adapter, AdapterKind, DeviceChoice, LoadedDevice, ModelError, error};
use burn::tensor::{Device, DeviceKind, StreamId};
use burn_wgpu::{WgpuBackend, wgpu};

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
    let Some((_, backends, api)) = interfaces().into_iter().find(|(interface, ..)| same(*interface)) else {
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
            error(label, "finds no GPU on this machine; a software device must be named by its number, see `drafthorse devices`")
        })?,
    };
    let Some(info) = list.get(number) else {
        let message = format!(
            "does not exist; Vulkan adapters found on this machine: {}, see `drafthorse devices`",
            list.len()
        );
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
