use crate::error::plain;
use drafthorse_logits::{ConstraintError, TokenId};
use llguidance::{TokenParser, api::StopReason, panic_utils::catch_unwind};
use std::panic::AssertUnwindSafe;

/// The parser of one text. After an error it is of no use any more.
pub(crate) struct Parser(TokenParser);

impl Parser {
    /// A parser that was just made.
    pub(crate) fn new(mut parser: TokenParser) -> Self {
        if parser.is_fresh() {
            parser.start_without_prompt();
        }
        Self(parser)
    }

    /// Another one at the same place, which shares nothing with this one.
    pub(crate) fn copy(&self) -> Self {
        Self(self.0.deep_clone())
    }

    /// The tokens that may follow the first `at`, a bit each; `None` where the text is over.
    pub(crate) fn mask(&mut self, at: usize) -> Result<Option<Vec<u32>>, ConstraintError> {
        if self.0.stopped() {
            return Ok(None);
        }
        // The parser's own memory of masks does not see that it was rolled back.
        self.0.invalidate_bias_cache();
        let parser = &mut self.0;
        let mask = catch_unwind(AssertUnwindSafe(|| parser.compute_mask()));
        mask.map(|mask| Some(mask.as_slice().to_vec())).map_err(|error| self.failure(at, &error))
    }

    /// The bytes by which every text goes on from here.
    pub(crate) fn forced_bytes(&self) -> Vec<u8> {
        let mut ahead = self.0.clone();
        catch_unwind(AssertUnwindSafe(|| Ok(ahead.force_bytes()))).unwrap_or_default()
    }

    /// Reads a token; false where the grammar does not allow it.
    pub(crate) fn read(&mut self, at: usize, token: TokenId) -> Result<bool, ConstraintError> {
        let parser = &mut self.0;
        let read = catch_unwind(AssertUnwindSafe(|| {
            if !parser.validate_token(token)? {
                return Ok(false);
            }
            parser.consume_token(token)?;
            parser.check_stop()?;
            Ok(true)
        }));
        read.map_err(|error| self.failure(at, &error))
    }

    /// Forgets the last `tokens`; false where the grammar has no way back.
    pub(crate) fn roll_back(&mut self, tokens: usize) -> bool {
        let parser = &mut self.0;
        catch_unwind(AssertUnwindSafe(|| parser.rollback(tokens))).is_ok()
    }

    fn failure(&self, position: usize, error: &impl ToString) -> ConstraintError {
        failure(position, self.0.stop_reason(), &error.to_string())
    }
}

/// What a parser that failed says of it.
fn failure(position: usize, reason: StopReason, message: &str) -> ConstraintError {
    let limit = match reason {
        StopReason::NoExtensionBias => return ConstraintError::DeadEnd { position },
        StopReason::LexerTooComplex => "work or states of the lexer",
        StopReason::ParserTooComplex => "items of the parser",
        _ => return ConstraintError::Failed { position, message: plain(message) },
    };
    ConstraintError::Limit { position, limit: format!("{limit}: {}", plain(message)) }
}
