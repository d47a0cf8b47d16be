//! From accepted tokens to a step of the text: the one place where a text is cut.

use crate::{Error, Finish, Provenance, StepToken, stop::StopStrings};
use drafthorse_logits::TokenId;
use drafthorse_model::TextDecoder;

/// Gives out tokens and text until the text ends.
pub(crate) struct Emitter {
    decoder: Option<Box<dyn TextDecoder>>,
    stops: StopStrings,
    stop_tokens: Vec<TokenId>,
    /// How many tokens may follow, and why not more.
    left: usize,
    limit: Finish,
}

/// How a text may end with a round, besides by what the emitter knows.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ends {
    /// After the last token the text is complete, and nothing may follow.
    pub(crate) complete: bool,
    /// With this token, from 0, it is given up; and how sure the expert was there.
    pub(crate) unsure: Option<(usize, f64)>,
}

/// What a round adds to the text.
pub(crate) struct Emitted {
    pub(crate) tokens: Vec<StepToken>,
    pub(crate) text: String,
    pub(crate) finish: Option<Finish>,
    /// Why the text breaks off after this.
    pub(crate) error: Option<Error>,
}

impl Emitter {
    pub(crate) fn new(
        decoder: Option<Box<dyn TextDecoder>>,
        stop_strings: Vec<String>,
        stop_tokens: Vec<TokenId>,
        left: usize,
        limit: Finish,
    ) -> Self {
        Self { decoder, stops: StopStrings::new(stop_strings), stop_tokens, left, limit }
    }

    /// How many tokens may follow.
    pub(crate) fn left(&self) -> usize {
        self.left
    }

    /// Takes the tokens of a round, up to the first stop token, stop string, limit, error, or the token with which the
    /// text is given up.
    pub(crate) fn emit(&mut self, round: &[(TokenId, Provenance)], ends: Ends) -> Emitted {
        let mut emitted = Emitted { tokens: Vec::new(), text: String::new(), finish: None, error: None };
        for (index, &(id, provenance)) in round.iter().enumerate() {
            let (text, finish) = match self.token(id) {
                Ok(token) => token,
                Err(error) => {
                    emitted.error = Some(error);
                    return emitted;
                }
            };
            emitted.text += &text;
            emitted.tokens.push(StepToken { id, provenance, text, log_probs: None, certainty: None });
            let gives_up = ends.unsure.filter(|(at, _)| *at == index);
            let finish = finish.or(gives_up.map(|(_, confidence)| Finish::Unsure { confidence }));
            if finish.is_some() {
                emitted.finish = finish;
                break;
            }
        }
        if ends.complete
            && emitted.tokens.len() == round.len()
            && emitted
                .finish
                .as_ref()
                .is_none_or(|finish| *finish == self.limit || matches!(finish, Finish::Unsure { .. }))
        {
            emitted.finish = Some(Finish::Grammar);
        }
        if emitted.finish.is_some() {
            let (text, error) = self.flush();
            emitted.text += &text;
            emitted.error = error;
        }
        emitted
    }

    fn token(&mut self, id: TokenId) -> Result<(String, Option<Finish>), Error> {
        self.left -= 1;
        if self.stop_tokens.contains(&id) {
            return Ok((String::new(), Some(Finish::StopToken(id))));
        }
        let released = match &mut self.decoder {
            Some(decoder) => self.stops.push(&decoder.push(id).map_err(Error::text)?),
            None => self.stops.push(""),
        };
        let finish = match released.stop {
            Some(stop) => {
                // What follows the stop string within its last token is not part of the text.
                self.decoder = None;
                Some(Finish::StopString(stop))
            }
            None => (self.left == 0).then(|| self.limit.clone()),
        };
        Ok((released.text, finish))
    }

    /// Text held back, when no token follows; and what went wrong with the rest, if something did.
    pub(crate) fn flush(&mut self) -> (String, Option<Error>) {
        let rest = self.decoder.as_mut().map_or(Ok(String::new()), |decoder| decoder.finish());
        let (rest, error) = match rest {
            Ok(rest) => (rest, None),
            Err(error) => (String::new(), Some(Error::text(error))),
        };
        let released = self.stops.push(&rest);
        (released.text + &self.stops.finish(), error)
    }
}
