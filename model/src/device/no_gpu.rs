//! A build without GPUs.

use super::{Adapter, DeviceChoice, LoadedDevice, ModelError, error};

pub(super) fn adapters() -> Vec<Adapter> {
    Vec::new()
}

pub(super) fn open(choice: DeviceChoice) -> Result<LoadedDevice, ModelError> {
    Err(error(&choice.to_string(), "is not in this build; build with the feature of that name"))
}
