//! Ctrl-C: the first ends the text cleanly, the second ends the program.

use std::{
    process::exit,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Exit code of a program ended by Ctrl-C.
pub(crate) const INTERRUPTED: u8 = 130;

#[derive(Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on. Where that is impossible, Ctrl-C ends the program as it would anyway.
    pub(crate) fn listen() -> Self {
        let flag = Arc::new(AtomicBool::new(false));
        let seen = flag.clone();
        let _ = ctrlc::set_handler(move || {
            if seen.swap(true, Ordering::SeqCst) {
                exit(i32::from(INTERRUPTED));
            }
        });
        Self(flag)
    }

    /// Whether Ctrl-C was pressed.
    pub(crate) fn seen(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
