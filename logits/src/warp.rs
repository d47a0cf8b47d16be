//! From the law of a row to what is sampled.

use crate::{
    candidates::{Few, Place, Truncation, View},
    processors::DynamicTemperature,
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
    /// `None` where the row is whole.
    pub(crate) few: Option<Few>,
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
                        warped.few = Some(match &warped.few {
                            None => Few::of(row, keep),
                            Some(few) => few.kept(keep),
                        });
                    }
                }
            }
        }
        warped
    }

    /// The logits that are left of `row`, of which it was made.
    pub(crate) fn logits<'a>(&'a self, row: &'a [f32]) -> &'a [f32] {
        self.few.as_ref().map_or(row, |few| &few.logits)
    }
}
