use crate::{grammar::Compiled, parser::Parser};
use drafthorse_logits::{ConstraintError, Matcher, TokenId, TokenSet};
use std::{iter::zip, sync::Arc};

/// Positions whose masks are remembered: drafts reach back less far.
const REMEMBERED: usize = 256;

/// A grammar along one text.
///
/// It remembers the tokens it was last asked about and what it said of each beginning of them. Another text with the
/// same beginning rolls the parser back to where they part.
pub(crate) struct GrammarMatcher {
    grammar: Arc<Compiled>,
    ends: Box<[TokenId]>,
    tokens: Vec<TokenId>,
    /// `known[i]`: what may follow `tokens[..i]`.
    known: Vec<Option<Position>>,
    /// A parser, and how many of the tokens it has read. There is none after a failure.
    parser: Option<(Parser, usize)>,
}

/// What is known of a position.
#[derive(Clone)]
struct Position {
    allowed: Arc<TokenSet>,
    complete: bool,
}

impl GrammarMatcher {
    pub(crate) fn new(grammar: Arc<Compiled>, ends: &[TokenId]) -> Self {
        Self { grammar, ends: ends.into(), tokens: Vec::new(), known: Vec::new(), parser: None }
    }

    fn position(&mut self, generated: &[TokenId]) -> Result<Position, ConstraintError> {
        self.go_to(generated);
        let at = generated.len();
        if let Some(Some(position)) = self.known.get(at) {
            return Ok(position.clone());
        }
        let position = self.compute(generated)?;
        self.known.resize(self.known.len().max(at + 1), None);
        self.known[at] = Some(position.clone());
        if at >= REMEMBERED {
            self.known[at - REMEMBERED] = None;
        }
        Ok(position)
    }

    /// Makes `generated` a beginning of the tokens that are remembered.
    fn go_to(&mut self, generated: &[TokenId]) {
        let common = zip(&self.tokens, generated).take_while(|(a, b)| a == b).count();
        if common == generated.len() {
            return;
        }
        self.tokens.truncate(common);
        self.tokens.extend_from_slice(&generated[common..]);
        self.known.truncate(common + 1);
        self.roll_back(common);
    }

    /// Takes the parser back to `at` tokens, if it has read more.
    fn roll_back(&mut self, at: usize) {
        let Some((parser, read)) = &mut self.parser else { return };
        if *read <= at {
            return;
        }
        // Some grammars cannot be rolled back: their texts are read anew.
        if parser.roll_back(*read - at) {
            *read = at;
        } else {
            self.parser = None;
        }
    }

    fn compute(&mut self, generated: &[TokenId]) -> Result<Position, ConstraintError> {
        let grammar = self.grammar.clone();
        let table = grammar.table();
        let ended = generated.iter().position(|token| self.ends.contains(token));
        let text = &generated[..ended.unwrap_or(generated.len())];
        if let Some(end) = ended {
            return self.after_end(text, end, generated);
        }
        let mask = self.parser_after(text).and_then(|parser| parser.mask(text.len()));
        let mask = mask.inspect_err(|error| match error {
            ConstraintError::Broken { .. } => {}
            _ => self.parser = None,
        })?;
        let complete = mask.as_ref().is_none_or(|words| bit(words, table.end()));
        let mut words = mask.unwrap_or_default();
        words.resize((table.vocab_size() + 1).div_ceil(32), 0);
        for &(token, twin) in table.twins() {
            let allowed = bit(&words, twin);
            set(&mut words, token, allowed);
        }
        for &end in self.ends.iter().filter(|end| **end < table.end()) {
            set(&mut words, end, complete);
        }
        let allowed = TokenSet::from_words(words, table.vocab_size());
        if allowed.is_empty() && !complete {
            return Err(ConstraintError::DeadEnd { position: text.len() });
        }
        Ok(Position { allowed: Arc::new(allowed), complete })
    }

    /// What follows an end token: nothing, if it may stand where it stands.
    fn after_end(
        &mut self,
        text: &[TokenId],
        end: usize,
        generated: &[TokenId],
    ) -> Result<Position, ConstraintError> {
        let broken = |position: usize| ConstraintError::Broken { position, token: generated[position] };
        if generated.len() > end + 1 {
            return Err(broken(end + 1));
        }
        // Not asked through `position`, which would forget the end token.
        let complete = match self.known.get(end) {
            Some(Some(position)) => position.complete,
            _ => self.compute(text)?.complete,
        };
        if !complete {
            return Err(broken(end));
        }
        Ok(Position { allowed: Arc::new(TokenSet::from_words(Vec::new(), 0)), complete })
    }

    /// The parser after `text`, a beginning of the tokens that are remembered.
    fn parser_after(&mut self, text: &[TokenId]) -> Result<&mut Parser, ConstraintError> {
        self.roll_back(text.len());
        let grammar = &self.grammar;
        let (parser, read) = self.parser.get_or_insert_with(|| (grammar.parser(), 0));
        for (position, &token) in text.iter().enumerate().skip(*read) {
            let known = grammar.table().representative(token);
            if !known.map_or(Ok(false), |known| parser.read(position, known))? {
                return Err(ConstraintError::Broken { position, token });
            }
            *read += 1;
        }
        Ok(parser)
    }

    /// What the tokenizer makes of the bytes that are forced after `text`: its first token.
    fn encoded(&mut self, text: &[TokenId], allowed: &TokenSet) -> Option<TokenId> {
        let grammar = self.grammar.clone();
        let table = grammar.table();
        let encode = table.encoder()?;
        let bytes = self.parser_after(text).ok()?.forced_bytes();
        let bytes = &bytes[..bytes.utf8_chunks().next()?.valid().len()];
        let tokens = encode(std::str::from_utf8(bytes).ok()?)?;
        let first = *tokens.first()?;
        // Some tokenizers write something in front.
        let faithful = tokens.iter().flat_map(|token| table.bytes(*token)).eq(bytes);
        // The last one might become longer with what follows.
        let longer = |token| table.bytes(token).len() > bytes.len() && table.bytes(token).starts_with(bytes);
        let open = tokens.len() == 1 && allowed.iter().any(longer);
        (faithful && !open && allowed.contains(first)).then_some(first)
    }
}

impl Matcher for GrammarMatcher {
    fn allowed(&mut self, generated: &[TokenId]) -> Result<Arc<TokenSet>, ConstraintError> {
        self.position(generated).map(|position| position.allowed)
    }

    fn is_complete(&mut self, generated: &[TokenId]) -> Result<bool, ConstraintError> {
        self.position(generated).map(|position| position.complete)
    }

    /// The next token as the tokenizer writes the bytes that are forced. Without one: where every allowed token is the
    /// beginning of one of them, the text goes on with that one's bytes.
    fn guess(&mut self, generated: &[TokenId]) -> Result<Option<TokenId>, ConstraintError> {
        let Position { allowed, complete } = self.position(generated)?;
        if let Some(only) = allowed.only() {
            return Ok(Some(only));
        }
        if complete {
            return Ok(None);
        }
        if let Some(token) = self.encoded(generated, &allowed) {
            return Ok(Some(token));
        }
        let table = self.grammar.table();
        let mut longest: Option<TokenId> = None;
        for token in allowed.iter() {
            let bytes = table.bytes(token);
            let best = longest.map_or(&[][..], |token| table.bytes(token));
            if bytes.is_empty() || !(bytes.starts_with(best) || best.starts_with(bytes)) {
                return Ok(None);
            }
            if bytes.len() > best.len() {
                longest = Some(token);
            }
        }
        Ok(longest)
    }
}

fn bit(words: &[u32], token: TokenId) -> bool {
    words.get(token as usize / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
}

fn set(words: &mut [u32], token: TokenId, value: bool) {
    let (word, bit) = (&mut words[token as usize / 32], 1 << (token % 32));
    *word = if value { *word | bit } else { *word & !bit };
}
