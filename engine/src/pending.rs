use crate::{Error, ErrorKind};
use crossbeam_channel::{Receiver, TryRecvError, bounded};
use drafthorse_model::ModelError;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

/// Something that is being loaded on a thread of its own while texts are generated.
///
/// ```
/// use drafthorse_drafter::ModelDrafter;
/// use drafthorse_engine::{Engine, Pending};
/// use drafthorse_model::TableModel;
/// use std::sync::Arc;
///
/// let mut engine = Engine::builder().expert(Arc::new(TableModel::random(4, 1.0, 1))).build()?;
/// let loading = Pending::spawn("drafter", || Ok(TableModel::random(4, 1.0, 2)));
/// // ... generate meanwhile, then:
/// engine.replace_drafter(ModelDrafter::new(Arc::new(loading.wait()?)))?;
/// assert_eq!(engine.drafter().name(), "model");
/// # Ok::<(), drafthorse_engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Pending<T> {
    what: String,
    result: Receiver<Result<T, Error>>,
}

impl<T: Send + 'static> Pending<T> {
    /// Loads `what` on a new thread. Dropping the result lets the thread end by itself.
    pub fn spawn(
        what: impl Into<String>,
        load: impl FnOnce() -> Result<T, ModelError> + Send + 'static,
    ) -> Self {
        let what = what.into();
        let (sender, result) = bounded(1);
        let name = what.clone();
        let work = move || {
            let outcome = catch_unwind(AssertUnwindSafe(load));
            let result = match outcome {
                Ok(Ok(value)) => Ok(value),
                Ok(Err(source)) => {
                    Err(Error::because(ErrorKind::Load, format!("the {name} could not be loaded"), source))
                }
                Err(panic) => {
                    let reason = panic.downcast_ref::<String>().map(String::as_str);
                    let reason = reason.or_else(|| panic.downcast_ref::<&str>().copied());
                    let reason = reason.unwrap_or("it gave no reason");
                    Err(Error::new(ErrorKind::Load, format!("loading the {name} panicked: {reason}")))
                }
            };
            // Nobody may be waiting any more.
            let _ = sender.send(result);
        };
        if thread::Builder::new().name(format!("load {what}")).spawn(work).is_err() {
            // The closure is gone and with it the sender: the receiver reports it.
        }
        Self { what, result }
    }

    /// The result, if loading has ended. Once given out it is gone, and an error follows.
    pub fn poll(&self) -> Option<Result<T, Error>> {
        match self.result.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(self.gone())),
        }
    }

    /// Waits until loading has ended.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Load`]: loading failed, panicked, or its result was given out before.
    pub fn wait(self) -> Result<T, Error> {
        self.result.recv().unwrap_or_else(|_| Err(self.gone()))
    }

    fn gone(&self) -> Error {
        let message =
            format!("the {} is not there: its thread could not start, or it was taken before", self.what);
        Error::new(ErrorKind::Load, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_arrives_once() {
        let pending = Pending::spawn("number", || Ok(7));
        let value = loop {
            if let Some(result) = pending.poll() {
                break result.unwrap();
            }
            thread::yield_now();
        };
        assert_eq!(value, 7);
        assert_eq!(pending.wait().unwrap_err().kind(), ErrorKind::Load);
    }

    #[test]
    fn failures_and_panics_are_errors() {
        let failed = Pending::<u8>::spawn("expert", || Err(ModelError::EmptySequence)).wait().unwrap_err();
        assert_eq!(failed.to_string(), "the expert could not be loaded");
        assert!(std::error::Error::source(&failed).is_some());
        let panicked = Pending::<u8>::spawn("expert", || panic!("as the test wants")).wait().unwrap_err();
        assert_eq!(
            (panicked.kind(), panicked.to_string().as_str()),
            (ErrorKind::Load, "loading the expert panicked: as the test wants")
        );
    }
}
