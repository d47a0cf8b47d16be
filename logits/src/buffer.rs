//! Rows of numbers whose memory is used again.

use std::{cell::RefCell, fmt, ops::Deref};

/// The most rows a thread keeps for later.
const KEPT: usize = 64;

/// A row that, once dropped, leaves its memory to the next one of the same thread: rounds of a text need
/// the same rows again and again, and so allocate nothing.
#[derive(PartialEq)]
pub(crate) struct Buffer<T: Element>(Vec<T>);

/// What rows are made of.
pub(crate) trait Element: Copy + PartialEq + fmt::Debug + 'static {
    /// The rows this thread keeps; `None` while it ends.
    fn with_kept<R>(f: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> Option<R>;
}

macro_rules! element {
    ($number:ty, $kept:ident) => {
        thread_local! {
            static $kept: RefCell<Vec<Vec<$number>>> = const { RefCell::new(Vec::new()) };
        }

        impl Element for $number {
            fn with_kept<R>(f: impl FnOnce(&mut Vec<Vec<Self>>) -> R) -> Option<R> {
                $kept.try_with(|kept| f(&mut kept.borrow_mut())).ok()
            }
        }
    };
}

element!(f32, KEPT_F32);
element!(f64, KEPT_F64);
element!(u32, KEPT_U32);

impl<T: Element> Buffer<T> {
    /// An empty row with room for `len` numbers, filled by `fill`.
    pub(crate) fn fill(len: usize, fill: impl FnOnce(&mut Vec<T>)) -> Self {
        let kept = T::with_kept(|kept| {
            let fitting = kept.iter().rposition(|row| row.capacity() >= len)?;
            Some(kept.swap_remove(fitting))
        });
        let mut row = kept.flatten().unwrap_or_else(|| Vec::with_capacity(len));
        fill(&mut row);
        Self(row)
    }

    /// A copy of `row`.
    pub(crate) fn copy(row: &[T]) -> Self {
        Self::fill(row.len(), |copy| copy.extend_from_slice(row))
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        &mut self.0
    }
}

impl<T: Element> From<Vec<T>> for Buffer<T> {
    fn from(row: Vec<T>) -> Self {
        Self(row)
    }
}

impl<T: Element> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Self::copy(&self.0)
    }
}

impl<T: Element> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Element> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Element> Drop for Buffer<T> {
    fn drop(&mut self) {
        let mut row = std::mem::take(&mut self.0);
        if row.capacity() == 0 {
            return;
        }
        row.clear();
        T::with_kept(|kept| {
            if kept.len() < KEPT {
                kept.push(row);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again() {
        let first = Buffer::<f64>::copy(&[1.0; 1000]);
        let place = first.as_ptr();
        drop(first);
        let small = Buffer::<f64>::copy(&[2.0; 10]);
        assert_eq!((small.as_ptr(), &small[..]), (place, &[2.0; 10][..]));
        let other = Buffer::<f64>::copy(&[3.0; 1000]);
        assert_ne!(other.as_ptr(), place, "in use");
        assert_eq!(small.clone(), small);
    }
}
