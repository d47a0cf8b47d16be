use super::{Context, LogitsProcessor, penalties::bounded};
use crate::TokenId;

/// Adds a number to the logits of given tokens; `-inf` bans a token, and nothing else does.
#[derive(Clone, Debug)]
pub struct LogitBias(pub Vec<(TokenId, f32)>);

impl LogitsProcessor for LogitBias {
    fn process(&self, _context: &Context<'_>, row: &mut [f32]) {
        for &(token, bias) in &self.0 {
            if let Some(logit) = row.get_mut(token as usize) {
                *logit = if bias.is_finite() { bounded(*logit, *logit + bias) } else { *logit + bias };
            }
        }
    }

    fn is_pure(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bias_is_added_and_can_ban() {
        let mut row = [0.0, 1.0, 2.0];
        LogitBias(vec![(0, 1.5), (2, f32::NEG_INFINITY)]).process(&Context::new(&[], 0), &mut row);
        assert_eq!(row, [1.5, 1.0, f32::NEG_INFINITY]);
    }
}
