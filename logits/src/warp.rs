//! From the law of a row to what is sampled.

use crate::{
    buffer::Buffer,
    candidates::{Few, Keep, Place, Truncation, View},
    processors::DynamicTemperature,
    scan,
};
use std::sync::Arc;

/// A step that changes how a row is sampled.
#[derive(Clone)]
pub(crate) enum Step {
    /// All logits are divided.
    Temperature(f32),
    /// All logits are divided by what the row says.
    Dynamic(DynamicTemperature),
    /// Some tokens stay.
    Keep(Arc<dyn Truncation>),
}

impl Step {
    pub(crate) fn keep(truncation: impl Truncation + 'static) -> Self {
        Self::Keep(Arc::new(truncation))
    }
}

/// What is left of a row, and at which temperature.
///
/// No logit is ever divided: what looks at probabilities divides on the way, and so the work after the first
/// truncation is with the few tokens that are left.
#[derive(Clone, Debug, Default)]
pub(crate) struct Warped {
    /// The tokens that are left, where they are few.
    pub(crate) few: Option<Few>,
    /// The row without what was excluded, where that is not most of it.
    dense: Option<Buffer<f32>>,
    pub(crate) temperature: Option<f32>,
}

impl Warped {
    /// Runs the steps over a row.
    pub(crate) fn of(row: &[f32], steps: &[Step], place: &Place) -> Self {
        let mut warped = Self::default();
        for step in steps {
            let view = View { logits: warped.logits(row), temperature: warped.temperature };
            match step {
                Step::Temperature(temperature) => warped.temperature = Some(*temperature),
                Step::Dynamic(dynamic) => warped.temperature = Some(dynamic.of(&view)),
                Step::Keep(truncation) => {
                    if let Some(keep) = truncation.keep(place, &view) {
                        warped.keep(row, keep);
                    }
                }
            }
        }
        warped
    }

    fn keep(&mut self, row: &[f32], keep: Keep) {
        if let Some(few) = &self.few {
            self.few = Some(few.kept(keep));
        } else if scan::count_within(self.logits(row), keep.low, keep.high) <= row.len() / 8 {
            self.few = Some(Few::of(self.logits(row), keep));
        } else {
            let dense = self.dense.get_or_insert_with(|| Buffer::copy(row));
            scan::exclude(dense.as_mut_slice(), keep.low, keep.high);
        }
    }

    /// The logits that are left of `row`, of which it was made.
    pub(crate) fn logits<'a>(&'a self, row: &'a [f32]) -> &'a [f32] {
        let dense = self.dense.as_deref().unwrap_or(row);
        self.few.as_ref().map_or(dense, |few| &few.logits)
    }
}
