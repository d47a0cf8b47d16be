//! A result several threads write to.

use super::tile::Place;
use std::{marker::PhantomData, ops::Range};

/// Rows of a result, of which each thread writes its own part.
pub(super) struct Out<'a> {
    start: *mut f32,
    rows: usize,
    width: usize,
    of: PhantomData<&'a mut [f32]>,
}

// SAFETY: threads get at the memory through unsafe functions only, which ask them to stay apart.
unsafe impl Sync for Out<'_> {}

impl<'a> Out<'a> {
    /// Rows of `width` values.
    pub(super) fn new(values: &'a mut [f32], width: usize) -> Self {
        let rows = values.len().checked_div(width).unwrap_or(0);
        Self { start: values.as_mut_ptr(), rows, width, of: PhantomData }
    }

    /// Values in a row.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Some columns of some rows, to be written.
    ///
    /// # Safety
    ///
    /// No other thread may touch them.
    #[inline(always)]
    pub(super) unsafe fn place(&self, rows: Range<usize>, columns: Range<usize>) -> Place {
        let inside = rows.start < rows.end && rows.end <= self.rows;
        assert!(inside && columns.start <= columns.end && columns.end <= self.width, "a place in a result");
        // SAFETY: it lies inside.
        Place { at: unsafe { self.start.add(rows.start * self.width + columns.start) }, stride: self.width }
    }

    /// A part of a row.
    ///
    /// # Safety
    ///
    /// No other thread may touch it while it is held.
    #[inline(always)]
    #[allow(clippy::mut_from_ref, reason = "parts are disjoint, which the caller promises")]
    pub(super) unsafe fn part(&self, row: usize, columns: Range<usize>) -> &mut [f32] {
        assert!(
            row < self.rows && columns.start <= columns.end && columns.end <= self.width,
            "a part of a row"
        );
        // SAFETY: it lies inside, and it is this thread's own.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.add(row * self.width + columns.start), columns.len())
        }
    }
}
