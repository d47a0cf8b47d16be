//! A GPU that every machine can have.

use burn::tensor::{Device, DeviceKind, wgpu::WgpuBackend};
use drafthorse_kernels::with_planes;
use std::sync::OnceLock;

/// The software device, or nothing with a word about it where the machine has none.
pub(crate) fn device() -> Option<Device> {
    static DEVICE: OnceLock<Option<Device>> = OnceLock::new();
    let device = DEVICE.get_or_init(|| {
        let options = Device::wgpu_options().graphics_api(WgpuBackend::Vulkan).device_kind(DeviceKind::Cpu);
        options.init().ok()
    });
    if device.is_none() {
        assert!(std::env::var_os("DRAFTHORSE_REQUIRE_VULKAN").is_none(), "no software Vulkan");
        println!("NOT RUN: no software Vulkan on this machine");
    }
    device.clone()
}

/// Checks the kernels of devices with planes and those of devices without; software has planes too, though
/// it does not say so.
pub(crate) fn on_both(check: fn(&Device)) {
    let Some(gpu) = device() else { return };
    check(&gpu);
    with_planes(|| check(&gpu));
}
